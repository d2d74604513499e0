"""Which version a request gets: pure decisions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.contracts.errors import InvalidInput, NotFound, PermissionDenied
from libs.contracts.inference import Message, Role
from libs.contracts.routes import Arm, EngineReport, KeyRole, Route
from services.serving.gateway.domain import (
    Caller,
    Limits,
    Purpose,
    Query,
    SamplingWish,
    Target,
    assignment,
    choose,
    parse_model,
    pick_engine,
    sampled_for_shadow,
    served_versions,
    unit_of,
)

CLIENT = frozenset({KeyRole.CLIENT})
EVALUATOR = frozenset({KeyRole.EVALUATOR})
NOW = "2030-01-01T00:00:00Z"


def arm(version: int, role: Role, share: float = 0.0) -> Arm:
    return Arm(version=version, role=role, share=share, digest=f"d{version}", base_digest="base")


def route(*arms: Arm, **options: object) -> Route:
    return Route.model_validate(
        {"tenant": "default", "task": "t", "generation": 3, "salt": "s", "arms": arms, **options}
    )


def canary_route(share: float) -> Route:
    return route(arm(1, Role.STABLE, 1 - share), arm(2, Role.CANARY, share))


@given(st.text(max_size=40), st.floats(0, 1), st.floats(0, 1))
def test_nobody_who_had_the_canary_loses_it_while_the_share_grows(user: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    unit = unit_of("default", user, "r")
    if choose(canary_route(low), Target("t"), unit, CLIENT).arm.version == 2:
        assert choose(canary_route(high), Target("t"), unit, CLIENT).arm.version == 2


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_the_canary_gets_its_share_of_users(share: float) -> None:
    units = [unit_of("default", f"user-{n}", "") for n in range(20_000)]
    got = sum(choose(canary_route(share), Target("t"), unit, CLIENT).arm.version == 2 for unit in units)
    assert abs(got / len(units) - share) < 0.012


def test_a_user_keeps_the_version_from_request_to_request() -> None:
    assert unit_of("default", "ann", "r1") == unit_of("default", "ann", "r2")
    assert unit_of("default", "ann", "r1") != unit_of("other", "ann", "r1")
    assert unit_of("default", "", "r1") != unit_of("default", "", "r2")


def test_a_users_name_is_not_in_the_unit() -> None:
    assert "ann" not in unit_of("default", "ann", "r")


def test_another_salt_draws_anew() -> None:
    units = [unit_of("default", f"user-{n}", "") for n in range(2000)]
    both = sum(assignment("a", unit) < 0.5 and assignment("b", unit) < 0.5 for unit in units)
    assert 0.2 < both / len(units) < 0.3


@pytest.mark.parametrize(("share", "version"), [(0.0, 1), (1.0, 2)])
def test_no_share_is_nobody_and_full_share_is_everybody(share: float, version: int) -> None:
    for n in range(500):
        assert choose(canary_route(share), Target("t"), unit_of("d", f"{n}", ""), CLIENT).arm.version == version


def test_the_probability_of_an_assignment_is_that_of_its_arm() -> None:
    seen = {
        (choice.arm.version, choice.probability)
        for choice in (choose(canary_route(0.25), Target("t"), unit_of("d", f"{n}", ""), CLIENT) for n in range(200))
    }
    assert seen == {(1, 0.75), (2, 0.25)}


@pytest.mark.parametrize("role", [Role.CANDIDATE, Role.SHADOW])
def test_a_version_without_a_pass_answers_the_evaluator_only(role: Role) -> None:
    asked = route(arm(1, Role.STABLE, 1.0), arm(2, role))
    with pytest.raises(PermissionDenied):
        choose(asked, Target("t", 2), "u", CLIENT)
    assert choose(asked, Target("t", 2), "u", EVALUATOR).arm.version == 2


def test_a_version_without_a_pass_is_never_chosen_by_itself() -> None:
    asked = route(arm(1, Role.STABLE, 1.0), arm(2, Role.CANDIDATE, 1.0), arm(3, Role.SHADOW, 1.0))
    assert {choose(asked, Target("t"), unit_of("d", f"{n}", ""), EVALUATOR).arm.version for n in range(300)} == {1}


def test_the_bare_base_answers_by_name_even_when_the_route_has_moved_on() -> None:
    choice = choose(route(arm(7, Role.STABLE, 1.0)), Target("t", 0), "u", CLIENT)
    assert (choice.arm.version, choice.arm.digest, choice.explicit) == (0, "base", True)


def test_a_version_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound):
        choose(route(arm(1, Role.STABLE, 1.0)), Target("t", 9), "u", EVALUATOR)


@pytest.mark.parametrize("model", ["", "Has Caps", "t@", "t@-1", "t@01", "t@x", "a.b", "../x", "t@1@2"])
def test_what_cannot_name_a_model_is_not_found(model: str) -> None:
    with pytest.raises(NotFound):
        parse_model(model)


def test_clients_are_shown_no_candidates() -> None:
    shown = served_versions(
        route(arm(3, Role.CANDIDATE), arm(0, Role.PREVIOUS), arm(1, Role.STABLE, 1.0), arm(4, Role.SHADOW))
    )
    assert [each.version for each in shown] == [1, 0]


def test_shadows_are_sampled_at_their_rate() -> None:
    asked = route(arm(1, Role.STABLE, 1.0), arm(2, Role.SHADOW), shadow_rate=0.3)
    got = sum(sampled_for_shadow(asked, f"r{n}") is not None for n in range(10_000))
    assert abs(got / 10_000 - 0.3) < 0.02
    assert sampled_for_shadow(route(arm(1, Role.STABLE, 1.0), shadow_rate=1.0), "r") is None


def test_the_least_busy_engine_that_has_the_version_is_asked() -> None:
    engines = [
        EngineReport.model_validate(
            {
                "engine_id": name,
                "address": name,
                "base_digest": "base",
                "routable": has,
                "started_at": NOW,
                "beat_at": NOW,
            }
        )
        for name, has in (("a", ["d1"]), ("b", ["d1", "d2"]), ("c", ["d1"]))
    ]
    chosen = pick_engine(engines, "d1", in_flight={"a": 2, "b": 1, "c": 1})
    assert chosen is not None
    assert chosen.engine_id == "b"
    avoiding = pick_engine(engines, "d1", in_flight={}, avoid={"a", "b"})
    assert avoiding is not None
    assert avoiding.engine_id == "c"
    assert pick_engine(engines, "d9", in_flight={}) is None


def test_the_tasks_system_message_goes_first_unless_there_is_one() -> None:
    asked = route(arm(1, Role.STABLE, 1.0), system="be brief")
    user = Message(role="user", content="hi")
    own = Message(role="system", content="be long")
    assert [m.content for m in Query("t", (user,), "r").prepared(asked)] == ["be brief", "hi"]
    assert Query("t", (own, user), "r").prepared(asked) == (own, user)


def test_answers_are_greedy_and_bounded_by_the_task_unless_asked_otherwise() -> None:
    asked = route(arm(1, Role.STABLE, 1.0), max_tokens=50)
    message = (Message(role="user", content="hi"),)
    settled = Query("t", message, "r").settled(asked)
    assert (settled.temperature, settled.max_tokens) == (0.0, 50)
    wished = Query("t", message, "r", SamplingWish(temperature=0.7, max_tokens=500)).settled(asked)
    assert (wished.temperature, wished.max_tokens) == (0.7, 50)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"messages": ()}, "messages"),
        ({"messages": (Message(role="wizard", content=""),)}, "messages.0.role"),
        ({"messages": (Message(role="user", content="x" * 101),)}, "messages"),
        ({"messages": (Message(role="user", content="x"),) * 4}, "messages"),
        ({"user": "u" * 201}, "user"),
        ({"request_id": "a\nb"}, "request_id"),
        ({"sampling": SamplingWish(temperature=-1)}, "temperature"),
        ({"sampling": SamplingWish(top_p=0)}, "top_p"),
        ({"sampling": SamplingWish(max_tokens=0)}, "max_tokens"),
        ({"sampling": SamplingWish(stop=("",))}, "stop"),
    ],
)
def test_a_field_out_of_range_is_named(change: dict[str, object], field: str) -> None:
    values = {"model": "t", "messages": (Message(role="user", content="hi"),), "request_id": "r", **change}
    with pytest.raises(InvalidInput) as refused:
        Query(**values).check(Limits(messages=3, characters=100))  # type: ignore[arg-type]
    assert refused.value.field == field


def test_evaluation_is_the_evaluators_purpose() -> None:
    client, evaluator = Caller("c", "default", CLIENT), Caller("e", "default", EVALUATOR)
    assert evaluator.purpose("evaluation") is Purpose.EVALUATION
    assert client.purpose("") is Purpose.USE
    with pytest.raises(PermissionDenied):
        client.purpose("evaluation")
    with pytest.raises(InvalidInput):
        client.purpose("fun")
