"""Which task a request is for: the operator's rules first, then what tasks claim, then the default."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from libs.contracts.errors import NotFound
from libs.contracts.routes import Route
from libs.contracts.task.routing import Condition, RoutingRule
from services.serving.gateway.domain.routing import Target, parse_model

AUTO_MODEL = "auto"
_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one rule; `why` is the condition that failed, or where the rule leads."""

    rule: str
    holds: bool
    why: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """The target of a request, the rule that chose it (empty: the request named it) and every rule looked at."""

    target: Target
    rule: str = ""
    outcomes: tuple[Outcome, ...] = ()


def resolve(
    model: str, segment: str, facts: Mapping[str, str], rules: Sequence[RoutingRule], routes: Iterable[Route]
) -> Resolution:
    """The target that a request gets.

    An explicit version is never changed. An operator's rule changes a named task only where it names that task itself.
    Among claims the strictest wins, then the task's name. Raises NotFound, with `model` as its field, where nothing
    leads anywhere.
    """
    wants_any = model in ("", AUTO_MODEL)
    target = Target("") if wants_any else parse_model(model)
    if target.version is not None:
        return Resolution(target)
    said = {**facts, "segment": segment, "task": target.task}
    outcomes: list[Outcome] = []
    for rule in rules:
        failing = _failing(rule.when, said)
        if failing is None and not wants_any and not rule.when.task:
            failing = f"the request names the task {target.task!r} and the rule does not"
        outcomes.append(Outcome(f"rule {rule.name}", failing is None, failing or f"leads to {rule.to}"))
        if failing is None:
            return Resolution(parse_model(rule.to), rule.name, tuple(outcomes))
    if not wants_any:
        return Resolution(target, "", tuple(outcomes))
    return _claimed(said, sorted(routes, key=lambda each: each.task), outcomes)


def _claimed(said: Mapping[str, str], routes: Sequence[Route], outcomes: list[Outcome]) -> Resolution:
    claims = [
        (claim, route, f"claim {number} of {route.task}")
        for route in routes
        for number, claim in enumerate(route.routing.claims)
    ]
    for claim, route, name in sorted(claims, key=lambda each: -each[0].strictness):
        failing = _failing(claim, said)
        outcomes.append(Outcome(name, failing is None, failing or f"leads to {route.task}"))
        if failing is None:
            return Resolution(Target(route.task), name, tuple(outcomes))
    for route in routes:
        if route.routing.default:
            outcomes.append(Outcome(f"{_DEFAULT} {route.task}", True, f"leads to {route.task}"))
            return Resolution(Target(route.task), _DEFAULT, tuple(outcomes))
    raise NotFound(
        "no rule and no task claims this request, and no task is the default: name a task",
        reason="MODEL_NOT_FOUND",
        field="model",
    )


def _failing(condition: Condition, said: Mapping[str, str]) -> str | None:
    return condition.failing(said, said)
