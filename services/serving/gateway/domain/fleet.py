"""What the routes want of the engines, base by base, against the slots there are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from libs.contracts.inference import Role
from libs.contracts.routes import EngineReport, Route

_SERVING = frozenset({Role.STABLE, Role.CANARY})


@dataclass(frozen=True, slots=True)
class Demand:
    """Adapters wanted of one base: with users, kept warm to take users over in one step, and asked for by machines.

    `slots` (adapters in one batch) and `max_adapters` (in memory) are the least that one of its engines has.
    """

    base_digest: str
    serving: int
    standby: int
    others: int
    engines: int
    slots: int
    max_adapters: int

    @property
    def advice(self) -> str:
        """What to change; empty where everything fits.

        One adapter past the slots makes requests take turns, and answers wait for the answers of others: better to know
        before than after.
        """
        everything = self.serving + self.standby + self.others
        if not self.engines:
            return "no engine serves this base"
        if self.max_adapters and everything > self.max_adapters:
            return (
                f"{everything} adapters wanted, memory holds {self.max_adapters}: the rest is loaded on request; set "
                f"PAWL_ENGINE_MAX_CPU_LORAS to {everything}"
            )
        if self.slots and self.serving > self.slots - 1:
            return (
                f"{self.serving} adapters have users, a batch takes {self.slots}: requests take turns; set "
                f"PAWL_ENGINE_MAX_LORAS to {everything + 1}"
            )
        if self.slots and everything > self.slots:
            return f"{everything} adapters wanted, a batch takes {self.slots}: not all of them stay in their slots"
        return ""


def demands(routes: Iterable[Route], engines: Sequence[EngineReport]) -> list[Demand]:
    """What is wanted, by base; a version that several routes name counts once, in its weightiest role."""
    wanted: dict[str, dict[str, Role]] = {}
    for route in routes:
        for arm in route.arms:
            roles = wanted.setdefault(arm.base_digest, {})
            if arm.adapter_digest and (arm.digest not in roles or _weight(arm.role) < _weight(roles[arm.digest])):
                roles[arm.digest] = arm.role
    for engine in engines:
        wanted.setdefault(engine.base_digest, {})
    return [_demand(base, list(roles.values()), engines) for base, roles in sorted(wanted.items())]


def _demand(base: str, roles: list[Role], engines: Sequence[EngineReport]) -> Demand:
    mine = [each for each in engines if each.base_digest == base]
    serving, standby = sum(each in _SERVING for each in roles), roles.count(Role.PREVIOUS)
    return Demand(
        base_digest=base,
        serving=serving,
        standby=standby,
        others=len(roles) - serving - standby,
        engines=len(mine),
        slots=min((each.max_loras for each in mine), default=0),
        max_adapters=min((each.max_adapters for each in mine), default=0),
    )


def _weight(role: Role) -> int:
    return 0 if role in _SERVING else 1 if role is Role.PREVIOUS else 2
