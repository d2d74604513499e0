"""Which engine is asked: one that has the version, among the least busy the one most likely to have it warm."""

import hashlib
from collections.abc import Collection, Iterable, Mapping

from libs.contracts.routes import EngineReport

_SLACK = 2
"""So many requests more than the least busy engine are no reason to give up what is warm elsewhere."""


def pick_engine(
    engines: Iterable[EngineReport],
    digest: str,
    *,
    in_flight: Mapping[str, int],
    avoid: Collection[str] = (),
    affinity: str = "",
    embeds: bool = False,
) -> EngineReport | None:
    """The engine to ask for a version: routable there, fewest of our requests in flight, then by id.

    Only where no engine has it in memory is one asked that would have to load it; with `embeds`, one that makes vectors
    and no other. `in_flight` counts by address. Addresses in `avoid` failed a moment ago and are not asked. With an
    `affinity` (a user's unit, or the task whose prompts begin alike) engines about equally busy are told apart by
    whether the adapter is in a slot, then by rendezvous hashing (Thaler & Ravishankar, 1998): turns meet their cached
    prefix, and an engine that leaves moves only its own. A report does not age here: with the broker away it stays the
    best that is known; asking is the test.
    """
    left = [each for each in engines if each.embeds is embeds and each.address not in avoid]
    able = [each for each in left if digest in each.routable] or [each for each in left if digest in each.cold]
    if not able or not affinity:
        return min(able, key=lambda each: (in_flight.get(each.address, 0), each.engine_id), default=None)
    least = min(in_flight.get(each.address, 0) for each in able)
    near = [each for each in able if in_flight.get(each.address, 0) <= least + _SLACK]
    if len(near) == 1:
        return near[0]
    return min(near, key=lambda each: (digest not in each.resident, _distance(affinity, each.engine_id)))


def _distance(affinity: str, engine_id: str) -> bytes:
    return hashlib.sha256(f"{affinity}\0{engine_id}".encode()).digest()
