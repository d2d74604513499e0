"""Which engine is asked: one that has the version, the least busy first."""

from collections.abc import Collection, Iterable, Mapping

from libs.contracts.routes import EngineReport


def pick_engine(
    engines: Iterable[EngineReport],
    digest: str,
    *,
    in_flight: Mapping[str, int],
    avoid: Collection[str] = (),
) -> EngineReport | None:
    """The engine to ask for a version: routable there, fewest of our requests in flight, then by id.

    `in_flight` counts by address. Addresses in `avoid` failed a moment ago and are not asked. A report does not age
    here: with the broker away it stays the best that is known, and asking is the test.
    """
    able = [each for each in engines if digest in each.routable and each.address not in avoid]
    return min(able, key=lambda each: (in_flight.get(each.address, 0), each.engine_id), default=None)
