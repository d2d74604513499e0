"""Work on segments while ingestion may gather small ones into larger ones, or rewrite them for an erasure."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from libs.contracts.errors import FailedPrecondition, NotFound
from libs.outbox.database import Database
from libs.telemetry import get_logger
from services.curation.store.datasets import segments_to

log = get_logger(__name__)

T = TypeVar("T")
NEWEST = 2**62


async def over_segments(
    database: Database,
    tenant: str,
    task: str,
    work: Callable[[Sequence[tuple[int, str]]], Awaitable[T]],
    *,
    watermark: int = NEWEST,
) -> T:
    """What `work` makes of the segments (number, digest) up to `watermark`.

    An object may go while it works, or a copy that its child was about to read: where others stand in for the segments
    by then, it works on those. Any failure over segments that are still the same is the caller's.
    """
    segments = await segments_to(database, tenant, task, watermark)
    while True:
        try:
            return await work(segments)
        except (NotFound, FailedPrecondition) as error:
            now = await segments_to(database, tenant, task, watermark)
            if now == segments:
                raise
            log.info("segments were rewritten meanwhile", task=task, reason=str(error))
            segments = now
