"""Whether a version just loaded answers, and as itself."""

from collections.abc import AsyncIterator

from services.serving.engine.domain.adapters import AdapterRefused
from services.serving.engine.domain.generation import Piece
from services.serving.engine.domain.residency import Version


async def check_smoke(pieces: AsyncIterator[Piece], version: Version) -> None:
    """Hear a short answer to its end. Raises AdapterRefused (`SMOKE_FAILED`) when nothing or another one answers."""
    tokens = 0
    async for piece in pieces:
        tokens += len(piece.token_ids)
        if piece.adapter_name != version.name:
            raise AdapterRefused(f"{piece.adapter_name!r} answered instead of {version.name!r}", reason="SMOKE_FAILED")
    if not tokens:
        raise AdapterRefused("it generates nothing", reason="SMOKE_FAILED")
