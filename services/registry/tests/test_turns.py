"""How a turn goes, from its trigger to its end."""

from datetime import timedelta

import pytest

from libs.contracts.commands import BuildDataset, EvaluateModel, TrainModel
from libs.contracts.errors import FailedPrecondition
from libs.contracts.estimates import Verdict
from libs.contracts.events import DatasetRefused, EvaluationFailed, RolloutChanged, TurnChanged, TurnState
from libs.contracts.inference import Role
from services.registry.domain import triggers, turns
from services.registry.domain.state import Status, Trigger
from services.registry.tests.world import (
    BASE,
    World,
    adapter,
    built,
    imported,
    progressed,
    report,
    run_failure,
    segment,
    spec_of,
    trained,
)


def test_a_declared_task_serves_its_bare_base_to_everybody() -> None:
    world = World()
    (arm,) = world.route.arms
    assert (arm.version, arm.role, arm.share, arm.digest, arm.adapter_digest) == (0, Role.STABLE, 1.0, BASE, "")
    assert world.route.generation == 1


def test_an_import_opens_a_turn_and_asks_for_a_dataset_up_to_its_watermark() -> None:
    world = World()
    world.decide(triggers.segment_written, segment(1, example=50))
    world.decide(triggers.segment_written, segment(2, example=50))
    assert world.task.turn is None
    world.decide(triggers.import_completed, imported(2))
    assert (world.turn.trigger, world.state) == (Trigger.IMPORT, TurnState.CURATING)
    (command,) = world.commands(BuildDataset)
    assert (command.number, command.watermark, command.turn_id) == (1, 2, world.turn.turn_id)


def test_an_import_that_brought_nothing_new_opens_no_turn() -> None:
    world = World()
    world.decide(triggers.import_completed, imported(0, accepted=0))
    assert world.task.turn is None


def test_corrections_open_a_turn_when_there_are_enough_since_the_last_one() -> None:
    world = World()
    world.decide(triggers.segment_written, segment(1, corrections=6, rating=10))
    assert world.task.turn is None
    world.decide(triggers.segment_written, segment(2, corrections=4))
    assert (world.turn.trigger, world.turn.watermark) == (Trigger.CORRECTIONS, 2)
    assert world.task.corrections == 0


def test_a_command_that_killed_whoever_took_it_ends_its_turn_and_no_other() -> None:
    world = World()
    world.decide(triggers.segment_written, segment(1, corrections=10))
    turn = world.turn
    command = BuildDataset(
        tenant="default",
        task="triage",
        turn_id="another",
        spec=world.task.spec,
        number=turn.dataset_number,
        watermark=1,
    )
    world.decide(turns.command_exhausted, command, "ran out of deliveries")
    assert world.state == TurnState.CURATING
    ours = command.model_copy(update={"turn_id": turn.turn_id})
    world.decide(turns.command_exhausted, ours, "ran out of deliveries")
    assert world.turn.state.value == "failed"
    assert "cmd.curation.build.v1 ran out of deliveries" in world.turn.reason


def test_corrections_of_a_source_that_may_not_train_open_no_turn() -> None:
    world = World(spec_of(data={"sources": ["desk"]}))
    world.decide(triggers.segment_written, segment(1, corrections=50, source="portal"))
    assert world.task.turn is None
    world.decide(triggers.segment_written, segment(2, corrections=10, source="desk"))
    assert world.turn.trigger == Trigger.CORRECTIONS


def test_corrections_that_arrive_during_a_turn_count_for_the_next_one() -> None:
    world = World()
    world.to_training()
    world.decide(triggers.segment_written, segment(2, corrections=30))
    first = world.turn.turn_id
    assert world.state is TurnState.TRAINING
    world.decide(turns.run_failed, run_failure(world.turn))
    assert world.turn.turn_id != first
    assert (world.turn.trigger, world.state, world.turn.watermark) == (Trigger.CORRECTIONS, TurnState.CURATING, 2)


def test_the_cooldown_delays_the_next_turn_until_a_tick_finds_it_over() -> None:
    world = World(spec_of(triggers={"corrections": 5, "cooldown_seconds": 100}))
    world.to_training()
    world.decide(turns.run_failed, run_failure(world.turn))
    first = world.turn.turn_id
    world.decide(triggers.segment_written, segment(2, corrections=5))
    world.tick()
    assert world.turn.turn_id == first
    world.now += timedelta(seconds=100)
    world.tick()
    assert world.turn.turn_id != first


def test_a_second_turn_by_hand_is_refused_naming_the_one_under_way() -> None:
    world = World()
    with pytest.raises(FailedPrecondition, match="no data"):
        world.decide(lambda task, occasion: triggers.open_by_hand(task, "ada", occasion))
    world.to_training()
    with pytest.raises(FailedPrecondition, match=world.turn.turn_id):
        world.decide(lambda task, occasion: triggers.open_by_hand(task, "ada", occasion))


def test_a_dataset_starts_a_run_on_the_base() -> None:
    world = World()
    world.to_training()
    (command,) = world.commands(TrainModel)
    assert (command.base_digest, command.dataset_digest, command.continue_from) == (BASE, world.turn.dataset_digest, "")
    assert world.turn.run_id == command.run_id


def test_a_task_that_says_so_continues_from_stable() -> None:
    world = World(spec_of(recipe={"start": "stable"}))
    world.to_promoted()
    world.to_training(watermark=2)
    assert world.commands(TrainModel)[-1].continue_from == adapter(1)


def test_trained_weights_are_a_base_that_an_engine_of_its_own_serves_and_a_later_run_goes_on_from() -> None:
    world = World(spec_of(recipe={"method": "full", "start": "stable"}))
    world.to_training()
    world.decide(turns.run_completed, trained(world.turn, 1).model_copy(update={"whole": True}))
    arm = world.route.version(1)
    assert arm is not None
    assert (arm.digest, arm.base_digest, arm.adapter_digest) == (adapter(1), adapter(1), "")
    world.tick()
    assert world.turn.reason == f"no engine serves base {adapter(1)[:19]}"
    world.more_bases.append(adapter(1))
    world.tick()
    world.decide(turns.report_completed, report(world.turn, Verdict.PASS))
    while world.turn.is_open:
        world.assess(Verdict.PASS)
    world.to_training(watermark=2)
    again = world.commands(TrainModel)[-1]
    assert (again.base_digest, again.continue_from) == (adapter(1), "")


def test_a_refused_dataset_fails_the_turn_with_curations_reason() -> None:
    world = World()
    world.decide(triggers.segment_written, segment(1, corrections=10))
    world.decide(
        turns.dataset_refused, DatasetRefused(tenant="default", task="triage", number=1, reason="3 rows, 20 needed")
    )
    assert world.state is TurnState.FAILED
    assert "3 rows, 20 needed" in world.turn.reason


def test_a_dataset_of_another_turn_is_ignored() -> None:
    world = World()
    world.to_training()
    before = world.task
    world.decide(turns.dataset_built, built(world.turn))
    assert world.task == before


def test_progress_keeps_the_newest_numbers_and_a_bounded_loss_curve() -> None:
    world = World()
    world.to_training()
    for step in range(1, 1001):
        world.decide(turns.run_progressed, progressed(world.turn, step, loss=1 / step))
    progress = world.turn.progress
    assert (progress["step"], progress["total_steps"]) == (1000, 1000)
    assert len(progress["curve"]) <= 200
    assert progress["curve"][-1] == (1000, 0.001)


def test_facts_of_an_attempt_that_was_taken_over_are_ignored() -> None:
    world = World()
    world.to_training()
    world.decide(turns.run_progressed, progressed(world.turn, 10, epoch=2))
    world.decide(turns.run_progressed, progressed(world.turn, 99, epoch=1))
    world.decide(turns.run_completed, trained(world.turn, 1, epoch=1))
    world.decide(turns.run_failed, run_failure(world.turn, epoch=1))
    assert (world.state, world.turn.progress["step"]) == (TurnState.TRAINING, 10)
    world.decide(turns.run_completed, trained(world.turn, 1, epoch=2))
    assert world.state is TurnState.LOADING


def test_an_adapter_of_another_base_fails_the_turn_and_becomes_no_version() -> None:
    world = World()
    world.to_training()
    world.decide(turns.run_completed, trained(world.turn, 1, base=adapter(9)))
    assert world.state is TurnState.FAILED
    assert [version.number for version in world.task.versions] == [0]


def test_a_trained_version_is_a_candidate_without_share_until_the_engines_have_it() -> None:
    world = World()
    world.to_loading()
    arm = world.route.version(1)
    assert arm is not None
    assert (arm.role, arm.share, arm.adapter_digest) == (Role.CANDIDATE, 0.0, adapter(1))
    assert arm.traceparent == world.turn.traceparent
    world.tick()
    assert world.state is TurnState.LOADING
    assert "waiting for e1" in world.turn.reason
    assert not world.commands(EvaluateModel)
    world.load()
    assert world.turn.state == "evaluating"
    (command,) = world.commands(EvaluateModel)
    assert (command.candidate.name, command.candidate.version) == ("fine_tuned", 1)
    assert [(arm.name, arm.version) for arm in command.baselines] == [("base", 0), ("stable", 0)]


def test_without_any_engine_of_the_base_a_candidate_waits() -> None:
    world = World()
    world.has_engine = False
    world.to_loading()
    world.tick()
    assert (world.state, world.turn.reason) == (TurnState.LOADING, f"no engine serves base {BASE[:19]}")


def test_an_engine_that_stopped_beating_does_not_count() -> None:
    world = World()
    world.to_loading()
    fleet = world.fleet()
    world.now += timedelta(minutes=5)
    world.decide(lambda task, occasion: turns.engines_reported(task, fleet, occasion))
    assert "no engine" in world.turn.reason


def test_an_engine_that_cannot_load_the_version_fails_the_turn_naming_why() -> None:
    world = World()
    world.to_loading()
    world.refusals[adapter(1)] = "rank 64 exceeds 16"
    world.tick()
    assert world.state is TurnState.FAILED
    assert "rank 64 exceeds 16" in world.turn.reason
    assert world.route.version(1) is None


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.INCONCLUSIVE])
def test_a_report_that_is_not_a_pass_refuses_the_version(verdict: Verdict) -> None:
    world = World()
    world.to_refused(verdict=verdict)
    assert world.state is TurnState.REFUSED
    assert world.task.version(1).status is Status.REFUSED
    assert world.task.version(1).open_gates == ("better-than-base",)
    assert world.route.version(1) is None
    assert not world.facts(RolloutChanged)


def test_a_pass_that_is_silent_on_a_declared_gate_is_no_pass() -> None:
    world = World()
    world.to_evaluating()
    world.decide(turns.report_completed, report(world.turn, Verdict.PASS, gates=("some-other-gate",)))
    assert world.state is TurnState.REFUSED
    assert world.task.version(1).open_gates == ("better-than-base",)


def test_an_evaluation_that_failed_is_never_a_pass() -> None:
    world = World()
    world.to_evaluating()
    fact = EvaluationFailed(
        tenant="default", task="triage", report_id=world.turn.report_id, version=1, reason="suite is gone"
    )
    world.decide(turns.evaluation_failed, fact)
    assert (world.state, world.task.version(1).status) == (TurnState.FAILED, Status.RETIRED)


def test_every_state_a_turn_enters_is_told_and_kept() -> None:
    world = World()
    world.to_promoted()
    told = [fact.state for fact in world.facts(TurnChanged)]
    assert told == [step.state for step in world.turn.steps]
    assert told[:5] == ["curating", "training", "loading", "evaluating", "shadow"]
    assert told[-1] == "promoted"
    assert world.turn.closed_at == world.now
