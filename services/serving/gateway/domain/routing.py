"""Which version a request gets: a pure function of route, user unit and what the caller may ask for."""

import hashlib
import re
from dataclasses import dataclass

from libs.contracts.errors import InvalidInput, NotFound, PermissionDenied
from libs.contracts.ids import NAME_PATTERN, user_hash
from libs.contracts.inference import Role
from libs.contracts.routes import Arm, KeyRole, Route
from libs.contracts.subjects import version_name

_SCALE = 2.0**53


@dataclass(frozen=True, slots=True)
class Target:
    """What `model` names: a task, or one version of it."""

    task: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The arm that answers. `fallback` takes over if it cannot be served; `probability` is that of this assignment."""

    arm: Arm
    explicit: bool
    probability: float
    fallback: Arm | None = None


def parse_model(model: str) -> Target:
    """`support-triage` or `support-triage@7`. Raises NotFound on anything that cannot name a model."""
    task, separator, number = model.partition("@")
    if not re.match(NAME_PATTERN, task) or (separator and not re.match(r"^(0|[1-9][0-9]{0,8})$", number)):
        raise NotFound(f"there is no model {model[:200]!r}", reason="MODEL_NOT_FOUND", field="model")
    return Target(task, int(number) if separator else None)


def unit_of(tenant: str, user: str, request_id: str) -> str:
    """The unit that assignment is sticky on: a hash of the user, or of the request where no user is named."""
    return user_hash(tenant, user) if user else hashlib.sha256(f"request\0{tenant}\0{request_id}".encode()).hexdigest()


def assignment(salt: str, unit: str) -> float:
    """Where a unit falls in [0, 1), uniformly over units and fixed for a salt.

    The canary takes the units below its share: as the share grows nobody who had the canary loses it.
    """
    drawn = int.from_bytes(hashlib.sha256(f"{salt}\0{unit}".encode()).digest()[:8], "big") >> 11
    return drawn / _SCALE


def sampled_for_shadow(route: Route, request_id: str) -> Arm | None:
    """The arm that mirrors this request, if the route has one and the request is in the sample."""
    arm = route.arm(Role.SHADOW)
    if arm is None or assignment(f"{route.salt}/shadow", request_id) >= route.shadow_rate:
        return None
    return arm


def choose(route: Route, target: Target, unit: str, roles: frozenset[KeyRole], segment: str = "") -> Choice:
    """The arm that answers a request. A segment that the task keeps from canaries gets the stable version.

    A version that has not passed its gates (candidate, shadow) answers nobody but the evaluator: PermissionDenied.
    The bare base answers by name whether the route lists it or not. Raises NotFound for a version that is not there.
    """
    if target.version is not None:
        return Choice(_explicit(route, target.version, roles), explicit=True, probability=1.0)
    stable, canary = route.arm(Role.STABLE), route.arm(Role.CANARY)
    if stable is None:
        raise NotFound(f"the task {route.task!r} has no stable version", reason="MODEL_NOT_FOUND", field="model")
    if canary is None:
        return Choice(stable, explicit=False, probability=1.0)
    if segment and segment in route.routing.no_canary:
        # Not by chance: these users must not count in a comparison with those who could have had the canary.
        return Choice(stable, explicit=True, probability=1.0)
    if assignment(route.salt, unit) < canary.share:
        return Choice(canary, explicit=False, probability=canary.share, fallback=stable)
    return Choice(stable, explicit=False, probability=1.0 - canary.share)


def served_versions(route: Route) -> list[Arm]:
    """What a client may name, the stable version first: no candidates, no shadows."""
    order = (Role.STABLE, Role.CANARY, Role.PREVIOUS)
    return sorted(
        (arm for arm in route.arms if arm.role in order), key=lambda arm: (order.index(arm.role), -arm.version)
    )


def _explicit(route: Route, number: int, roles: frozenset[KeyRole]) -> Arm:
    arm = route.version(number)
    if arm is None and number == 0 and route.arms:
        base = next((each.base_digest for each in route.arms if each.role is Role.STABLE), route.arms[0].base_digest)
        return Arm(version=0, role=Role.PREVIOUS, digest=base, base_digest=base)
    if arm is None:
        raise NotFound(
            f"the route of {route.task!r} has no version {number}",
            reason="MODEL_NOT_FOUND",
            field="model",
            model=version_name(route.task, number),
        )
    if arm.role in (Role.CANDIDATE, Role.SHADOW) and number != 0 and KeyRole.EVALUATOR not in roles:
        raise PermissionDenied(
            f"{version_name(route.task, number)} has not passed its gates: only the evaluator may ask for it",
            reason="VERSION_NOT_RELEASED",
            field="model",
        )
    return arm


def check_task(task: str) -> str:
    """Return a task name that can stand in a subject. Raises InvalidInput."""
    if not re.match(NAME_PATTERN, task):
        raise InvalidInput(f"{task[:100]!r} is not a task name", field="task")
    return task
