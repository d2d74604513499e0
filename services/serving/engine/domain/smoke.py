"""Whether a version just loaded answers, and as itself."""

import math
from collections.abc import AsyncIterator

from services.serving.engine.domain.adapters import AdapterRefused
from services.serving.engine.domain.generation import Piece, Vectors
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


def check_vectors(made: Vectors) -> None:
    """Raises AdapterRefused (`SMOKE_FAILED`) where a vector is empty or holds what is no number."""
    if not all(each and all(map(math.isfinite, each)) for each in made.values):
        raise AdapterRefused("its vectors are empty or not finite", reason="SMOKE_FAILED")
