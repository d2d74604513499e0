"""Which task a request is for, and whether the answer is always the same."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.contracts.errors import NotFound
from libs.contracts.inference import Role
from libs.contracts.routes import Arm, EngineReport, Route
from libs.contracts.task.routing import RoutingRule, RoutingSpec
from services.serving.gateway.domain import Target, assignment, choose, pick_engine, resolve, unit_of

STABLE = Arm(version=1, role=Role.STABLE, share=1.0, digest="d1", base_digest="b")


def route(task: str, *arms: Arm, **routing: Any) -> Route:
    spec = RoutingSpec.model_validate(routing)
    return Route(tenant="default", task=task, generation=1, salt=task, arms=arms or (STABLE,), routing=spec)


def rule(name: str, to: str, **when: Any) -> RoutingRule:
    return RoutingRule.model_validate({"name": name, "to": to, "when": when})


ROUTES = [
    route("billing", claims=[{"domain": ["billing"]}]),
    route("clinic", claims=[{"domain": ["billing"], "segment": ["clinics"]}, {"headers": {"X-Product": "ward"}}]),
    route("triage", claims=[{"task_type": ["classify", "triage"]}], default=True),
]


@pytest.mark.parametrize(
    ("facts", "segment", "task", "by"),
    [
        ({"domain": "billing"}, "", "billing", "claim 0 of billing"),
        ({"domain": "billing"}, "clinics", "clinic", "claim 0 of clinic"),
        ({"x-product": "ward"}, "", "clinic", "claim 1 of clinic"),
        ({"task_type": "classify"}, "", "triage", "claim 0 of triage"),
        ({"task_type": "poetry"}, "", "triage", "default"),
        ({}, "", "triage", "default"),
    ],
)
def test_the_strictest_claim_gets_a_request_that_names_no_task(
    facts: dict[str, str], segment: str, task: str, by: str
) -> None:
    found = resolve("auto", segment, facts, [], ROUTES)
    assert (found.target, found.rule) == (Target(task), by)
    assert found.outcomes[-1].holds


def test_an_operators_rule_comes_before_every_claim_and_the_first_one_decides() -> None:
    rules = [rule("one", "billing", domain=["legal"]), rule("two", "triage@3", domain=["billing"]), rule("three", "x")]
    found = resolve("auto", "", {"domain": "billing"}, rules, ROUTES)
    assert (found.target, found.rule) == (Target("triage", 3), "two")
    assert [(each.rule, each.holds) for each in found.outcomes] == [("rule one", False), ("rule two", True)]
    assert "domain is 'billing', not 'legal'" in found.outcomes[0].why


def test_a_named_task_is_changed_only_by_a_rule_that_names_it_and_a_version_never() -> None:
    general = rule("general", "billing")
    beta = rule("beta", "triage-beta", task=["triage"], segment=["beta"])
    assert resolve("triage", "beta", {}, [general], ROUTES).target == Target("triage")
    assert resolve("triage", "beta", {}, [general, beta], ROUTES).target == Target("triage-beta")
    assert resolve("triage", "", {}, [beta], ROUTES).target == Target("triage")
    assert resolve("triage@2", "beta", {}, [beta], ROUTES).target == Target("triage", 2)


def test_what_nobody_claims_is_not_found() -> None:
    with pytest.raises(NotFound) as refused:
        resolve("auto", "", {}, [], ROUTES[:2])
    assert refused.value.field == "model"


def test_a_segment_kept_from_canaries_gets_stable_and_does_not_count_as_chance() -> None:
    canary = Arm(version=2, role=Role.CANARY, share=0.999999, digest="d2", base_digest="b")
    held = route("t", STABLE.model_copy(update={"share": 0.000001}), canary, no_canary=["clinics"])
    kept = choose(held, Target("t"), "u", frozenset(), "clinics")
    other = choose(held, Target("t"), "u", frozenset(), "retail")
    assert (kept.arm.version, kept.explicit) == (1, True)
    assert (other.arm.version, other.explicit) == (2, False)


@given(
    users=st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=30),
    shares=st.lists(st.floats(0, 1), min_size=2, max_size=6).map(sorted),
    salt=st.text(max_size=10),
)
def test_through_the_ramp_a_user_moves_to_the_canary_once_and_every_replica_agrees(
    users: list[str], shares: list[float], salt: str
) -> None:
    for user in users:
        unit = unit_of("default", user, "any request")
        # A replica is nothing but the same function of the same route.
        sides = [assignment(salt, unit) < share for share in shares]
        assert sides == sorted(sides)
        assert unit == unit_of("default", user, "another request")


def engine(name: str, *resident: str, routable: tuple[str, ...] = ("d",)) -> EngineReport:
    at = "2026-01-01T00:00:00Z"
    return EngineReport.model_validate(
        {
            "engine_id": name, "address": name, "base_digest": "b", "routable": routable, "resident": resident,
            "started_at": at, "beat_at": at,
        }
    )  # fmt: skip


def test_a_user_meets_the_same_engine_until_it_is_busier_than_the_others() -> None:
    engines = [engine(name) for name in "abc"]
    chosen = pick_engine(engines, "d", in_flight={}, affinity="ann")
    assert chosen is not None
    assert pick_engine(engines[::-1], "d", in_flight={chosen.address: 2}, affinity="ann") == chosen
    elsewhere = pick_engine(engines, "d", in_flight={chosen.address: 9}, affinity="ann")
    assert elsewhere is not None
    assert elsewhere != chosen


def test_an_engine_that_leaves_moves_only_its_own_users() -> None:
    engines = [engine(name) for name in "abcd"]
    users = [f"user {number}" for number in range(200)]
    before = {user: pick_engine(engines, "d", in_flight={}, affinity=user) for user in users}
    after = {user: pick_engine(engines[:3], "d", in_flight={}, affinity=user) for user in users}
    moved = {user for user in users if before[user] != after[user]}
    assert moved == {user for user in users if before[user] == engines[3]}
    assert moved


def test_among_engines_about_equally_busy_the_one_with_the_adapter_in_a_slot_is_asked() -> None:
    engines = [engine("a"), engine("b", "d"), engine("c")]
    for user in ("ann", "bob", "eve"):
        chosen = pick_engine(engines, "d", in_flight={"b": 1}, affinity=user)
        assert chosen is not None
        assert chosen.engine_id == "b"
