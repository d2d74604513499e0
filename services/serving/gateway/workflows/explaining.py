"""Why a request gets the version it gets, in words."""

from collections.abc import Sequence

from libs.contracts.inference import Role
from libs.contracts.routes import Arm, EngineReport, Route
from libs.contracts.subjects import version_name
from services.serving.gateway.domain import Choice, Explanation, Query, Resolution


def explanation(
    resolution: Resolution, route: Route, choice: Choice, drawn: float, query: Query, engines: Sequence[EngineReport]
) -> Explanation:
    """Everything that decided; `drawn` is where the user falls in [0, 1)."""
    canary = route.arm(Role.CANARY)
    share = canary.share if canary is not None else 0.0
    told = _reason(resolution, route, choice, drawn, share, query)
    able = _able(choice.arm, engines)
    if not able:
        told += f"; no engine can serve it now: {_instead(route, choice, engines)}"
    return Explanation(resolution, route, choice, drawn, share, able, told)


def _able(arm: Arm, engines: Sequence[EngineReport]) -> tuple[str, ...]:
    """Engines that would be asked: those with the version in memory or, where there is none, on their disk."""
    generating = [each for each in engines if not each.embeds]
    found = [each for each in generating if arm.digest in each.routable]
    found = found or [each for each in generating if arm.digest in each.cold]
    return tuple(sorted(each.engine_id for each in found))


def _instead(route: Route, choice: Choice, engines: Sequence[EngineReport]) -> str:
    if choice.fallback is not None and _able(choice.fallback, engines):
        return f"{version_name(route.task, choice.fallback.version)} stands in"
    return "a request waits for one, and is refused in the end"


def _reason(resolution: Resolution, route: Route, choice: Choice, drawn: float, share: float, query: Query) -> str:
    name = version_name(route.task, choice.arm.version)
    if resolution.target.version is not None:
        return f"{name} was asked for by {'the rule' if resolution.rule else 'name'}"
    if share and query.segment and query.segment in route.routing.no_canary:
        return f"{name} is stable: the task keeps canaries from the segment {query.segment!r}"
    if not share:
        return f"{name} is stable and there is no canary"
    whose = "the user" if query.user else "this request (no user is named, each falls anew)"
    side = "below" if choice.arm.role is Role.CANARY else "not below"
    return f"{whose} falls at {drawn:.4f}, {side} the canary's share of {share:g}: {name}"
