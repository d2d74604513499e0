"""A rollout in people's hands, in freeze windows, and watched segment by segment."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from libs.contracts.errors import FailedPrecondition, InvalidInput
from libs.contracts.estimates import Verdict
from libs.contracts.events import SegmentEvidence, TurnState
from libs.contracts.task.rollout import FreezeWindow
from services.registry.domain.hands import override
from services.registry.domain.state import Status
from services.registry.domain.steering import steer_rollout
from services.registry.tests.test_rollout import shares
from services.registry.tests.world import START, World, spec_of


def steer(world: World, wish: str, reason: str = "as agreed", by: str = "grace") -> None:
    fleet = world.fleet()
    world.decide(lambda task, occasion: steer_rollout(task, wish, fleet, by, reason, occasion))


def test_a_paused_rollout_waits_and_takes_the_pass_up_when_resumed() -> None:
    world = World()
    world.to_shadow()
    steer(world, "pause")
    world.assess(Verdict.PASS)
    assert (world.state, world.turn.reason) == (TurnState.SHADOW, "held: paused by grace")
    steer(world, "resume")
    world.tick()
    assert shares(world)[1] == ("canary", 0.05)
    assert [world.records(f"rollout_{each}")[0].by for each in ("paused", "resumed")] == ["grace", "grace"]


def test_nobody_can_pause_harm() -> None:
    world = World()
    world.to_shadow()
    steer(world, "pause")
    world.assess(Verdict.FAIL)
    assert world.state is TurnState.ROLLED_BACK


def test_advancing_by_hand_is_one_step_and_on_the_record() -> None:
    world = World()
    world.to_shadow()
    steer(world, "advance", "the launch is today")
    assert shares(world)[1] == ("canary", 0.05)
    steer(world, "advance")
    assert shares(world)[1] == ("canary", 0.25)
    first = world.records("rollout_advanced")[0]
    assert (first.by, first.evidence["from"], first.evidence["to"]) == ("grace", 0, 5)
    assert "the launch is today" in first.reason


def test_the_last_step_needs_an_assessment_of_the_one_before() -> None:
    world = World()
    world.to_shadow()
    for _ in range(3):
        steer(world, "advance")
    with pytest.raises(FailedPrecondition) as refused:
        steer(world, "advance")
    assert refused.value.reason == "NO_EVIDENCE"
    world.assess(Verdict.INCONCLUSIVE)
    steer(world, "advance")
    assert shares(world)[1] == ("stable", 1.0)


def test_from_shadow_nobody_gets_everything_at_once() -> None:
    world = World(spec_of(rollout={"canary": {"steps": [100]}}))
    world.to_shadow()
    with pytest.raises(FailedPrecondition) as refused:
        steer(world, "advance")
    assert refused.value.reason == "NO_WATCH"


def test_a_version_that_an_engine_lost_does_not_advance() -> None:
    world = World()
    world.to_shadow()
    world.has_engine = False
    with pytest.raises(FailedPrecondition) as refused:
        steer(world, "advance")
    assert refused.value.reason == "NOT_ROUTABLE"


def test_an_aborted_rollout_leaves_stable_alone() -> None:
    world = World()
    world.to_shadow()
    world.assess(Verdict.PASS)
    steer(world, "abort")
    assert shares(world) == {0: ("stable", 1.0)}
    assert (world.state, world.task.version(1).status) == (TurnState.CANCELLED, Status.RETIRED)


@pytest.mark.parametrize(
    ("wish", "reason", "by", "error"),
    [
        ("stop", "r", "grace", InvalidInput),
        ("advance", " ", "grace", InvalidInput),
        ("abort", "", "grace", InvalidInput),
        ("pause", "r", "", InvalidInput),
    ],
)
def test_steering_needs_a_wish_a_name_and_where_it_matters_a_reason(
    wish: str, reason: str, by: str, error: type[Exception]
) -> None:
    world = World()
    world.to_shadow()
    with pytest.raises(error):
        steer(world, wish, reason, by)


def test_without_a_rollout_there_is_nothing_to_steer() -> None:
    world = World()
    for prepare in (lambda: None, world.to_evaluating):
        prepare()
        with pytest.raises(FailedPrecondition) as refused:
            steer(world, "pause")
        assert refused.value.reason == "NO_ROLLOUT"


def test_in_a_freeze_nothing_advances_and_harm_is_acted_on() -> None:
    until = START + timedelta(hours=1)
    world = World(spec_of(rollout={"freeze": [{"since": START, "until": until, "reason": "year's end"}]}))
    world.to_shadow()
    world.assess(Verdict.PASS)
    assert (world.state, world.turn.reason) == (TurnState.SHADOW, "held: year's end")
    with pytest.raises(FailedPrecondition) as refused:
        steer(world, "advance")
    assert refused.value.reason == "FROZEN"
    world.now = until
    world.assess(Verdict.PASS)
    assert shares(world)[1] == ("canary", 0.05)

    frozen = World(spec_of(rollout={"freeze": [{"since": START, "until": until}]}))
    frozen.to_shadow()
    frozen.assess(Verdict.FAIL)
    assert frozen.state is TurnState.ROLLED_BACK


def test_an_override_waives_gates_and_no_freeze() -> None:
    until = START + timedelta(hours=1)
    world = World(spec_of(rollout={"freeze": [{"since": START, "until": until, "reason": "year's end"}]}))
    world.to_refused()
    world.decide(lambda task, occasion: override(task, 1, ("better-than-base",), "grace", "urgent", occasion))
    world.tick()
    assert (world.state, world.turn.reason) == (TurnState.LOADING, "held: year's end")
    assert shares(world)[1] == ("candidate", 0.0)
    world.now = until
    world.tick()
    assert shares(world)[1] == ("canary", 0.05)


def test_a_weekly_freeze_may_span_midnight() -> None:
    window = FreezeWindow.model_validate({"days": ["fri"], "start": "16:00", "end": "08:00"})
    friday = datetime(2026, 1, 2, 15, 59, tzinfo=UTC)
    inside = [window.holds(friday + timedelta(minutes=minutes)) for minutes in (0, 1, 8 * 60, 16 * 60, 16 * 60 + 1)]
    assert inside == [False, True, True, True, False]
    assert not window.holds(friday - timedelta(days=1) + timedelta(hours=2))


@pytest.mark.parametrize("given", [{}, {"start": "10:00"}, {"start": "10:00", "end": "11:00", "since": START}])
def test_half_a_freeze_window_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="start and end"):
        FreezeWindow.model_validate(given)


@pytest.mark.parametrize("whole", [Verdict.PASS, Verdict.INCONCLUSIVE])
def test_harm_in_one_segment_rolls_back_though_the_whole_is_fine(whole: Verdict) -> None:
    world = World()
    world.to_shadow()
    world.assess(Verdict.PASS)
    fine = SegmentEvidence(verdict=Verdict.INCONCLUSIVE)
    world.assess(whole, segments={"retail": fine})
    if whole is Verdict.PASS:
        assert shares(world)[1] == ("canary", 0.25)
    harmed = SegmentEvidence(verdict=Verdict.FAIL, e_value=250.0, alpha=0.005, reason="9 of 10 windows bad")
    world.assess(whole, segments={"retail": fine, "clinics": harmed})
    assert shares(world) == {0: ("stable", 1.0)}
    assert world.state is TurnState.ROLLED_BACK
    assert "'clinics'" in world.turn.reason
