"""What the routes want of an engine of one base, in the order in which it matters."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from libs.contracts.inference import Role
from libs.contracts.routes import EngineReport, Route

_ORDER = {Role.STABLE: 0, Role.CANARY: 1, Role.PREVIOUS: 2, Role.CANDIDATE: 3, Role.SHADOW: 4}
PINNED_ROLES = frozenset({Role.STABLE, Role.CANARY, Role.PREVIOUS})
"""Roles whose adapter must be warm at any moment: they have users, or take them over in one step."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A version that some route names. `role` is the weightiest of its roles; `adapter_digest` is never empty."""

    digest: str
    adapter_digest: str
    tenant: str
    task: str
    role: Role

    @property
    def weight(self) -> int:
        """0 for stable, then canary, previous, candidate, shadow."""
        return _ORDER[self.role]


def wanted_versions(routes: Iterable[Route], base_digest: str) -> list[Wanted]:
    """The adapters that routes want on this base, the weightiest roles first; the bare base needs no loading."""
    found: dict[str, Wanted] = {}
    for route in sorted(routes, key=lambda each: (each.tenant, each.task)):
        for arm in route.arms:
            if arm.base_digest != base_digest or not arm.adapter_digest or arm.digest == base_digest:
                continue
            asked = Wanted(arm.digest, arm.adapter_digest, route.tenant, route.task, arm.role)
            held = found.get(arm.digest)
            if held is None or asked.weight < held.weight:
                found[arm.digest] = asked
    return sorted(found.values(), key=lambda each: (each.weight, each.tenant, each.task, each.digest))


def pin_limit(wanted: int, max_loras: int) -> int:
    """How many adapters may be pinned where so many are wanted.

    At least one slot stays free: vLLM's scheduler does not know of pins, and with all slots pinned one more adapter
    kills it. Where there are more adapters than slots, half of the slots stay free, or one adapter past the slots would
    send all that are not pinned through a single one.
    """
    return max_loras - 1 if wanted <= max_loras else max_loras // 2


def choose_pins(wanted: Sequence[Wanted], pinned: Mapping[str, bool], *, max_loras: int) -> list[str]:
    """Digests to pin next, given which loaded digests are pinned."""
    room = pin_limit(len(wanted), max_loras) - sum(pinned.values())
    candidates = [
        each.digest
        for each in wanted
        if each.role in PINNED_ROLES and each.digest in pinned and not pinned[each.digest]
    ]
    return candidates[: max(0, room)]


def choose_unpin(wanted: Sequence[Wanted], pinned: Mapping[str, bool], *, max_loras: int) -> str | None:
    """The pinned digest that matters least, where more are pinned than may be by now; None where all is well."""
    if sum(pinned.values()) <= pin_limit(len(wanted), max_loras):
        return None
    return next((each.digest for each in reversed(wanted) if pinned.get(each.digest)), None)


def next_base(routes: Iterable[Route], taken: Collection[str], *, tenant: str) -> str | None:
    """The first base, by name of task and version, that a route of the tenant names and nobody has taken."""
    for route in sorted(routes, key=lambda each: each.task):
        if route.tenant == tenant:
            for arm in sorted(route.arms, key=lambda each: each.version):
                if arm.base_digest not in taken:
                    return arm.base_digest
    return None


def yields_to(mine: EngineReport, others: Iterable[EngineReport]) -> bool:
    """Whether another engine has the better claim to the base: it started earlier, or its name comes first."""
    return any(
        (each.started_at, each.engine_id) < (mine.started_at, mine.engine_id)
        for each in others
        if each.engine_id != mine.engine_id and each.base_digest == mine.base_digest
    )
