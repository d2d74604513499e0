"""A drop of production opens a turn, once there is something new to learn from."""

from libs.contracts.events import DropDetected, TurnState
from services.registry.domain import triggers
from services.registry.domain.rollout import roll_back_stable
from services.registry.domain.state import Trigger
from services.registry.tests.world import START, World, segment, spec_of


def drop(version: int) -> DropDetected:
    return DropDetected(
        tenant="default", task="triage", number=1, version=version, floor=0.9, satisfaction=0.6, e_value=2e4,
        needed=1e4, users=80, first_window=900, last_window=980, reason="60% of the last 80 users", detected_at=START,
    )  # fmt: skip


def world(**triggers_given: object) -> World:
    built = World(spec_of(triggers={"on_drop": {}, "corrections": None, **triggers_given}))
    built.to_promoted()
    return built


def test_a_drop_waits_for_new_data_and_then_opens_a_turn_that_says_why() -> None:
    house = world()
    first = house.turn.turn_id
    house.decide(triggers.drop_detected, drop(1))
    assert house.turn.turn_id == first
    assert house.records("drop")[0].evidence["e_value"] == 2e4
    house.decide(triggers.segment_written, segment(2, corrections=3))
    assert (house.turn.trigger, house.state) == (Trigger.DROP, TurnState.CURATING)
    assert "60% of the last 80 users" in house.turn.reason
    assert house.task.drop_reason == ""


def test_new_data_that_came_before_the_drop_serves_too() -> None:
    house = world()
    house.decide(triggers.segment_written, segment(2, corrections=3))
    assert house.state is TurnState.PROMOTED
    house.decide(triggers.drop_detected, drop(1))
    assert house.turn.trigger is Trigger.DROP


def test_a_drop_of_a_version_that_serves_no_more_changes_nothing() -> None:
    house = world()
    house.decide(triggers.segment_written, segment(2, corrections=3))
    house.decide(triggers.drop_detected, drop(0))
    assert house.task.drop_reason == ""
    assert house.state is TurnState.PROMOTED


def test_a_drop_opens_nothing_where_the_task_does_not_ask_for_it() -> None:
    house = world(on_drop=None)
    house.decide(triggers.segment_written, segment(2, corrections=3))
    house.decide(triggers.drop_detected, drop(1))
    assert house.state is TurnState.PROMOTED
    assert house.records("drop")


def test_a_rollback_answers_a_drop() -> None:
    house = world()
    house.decide(triggers.drop_detected, drop(1))
    house.decide(lambda task, occasion: roll_back_stable(task, occasion, "complaints", "ada"))
    assert house.task.drop_reason == ""
