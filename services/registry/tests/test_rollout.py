"""How a version gets to users, and how it is taken away again."""

from datetime import timedelta

import pytest

from libs.contracts.errors import AlreadyExists, FailedPrecondition, InvalidInput, NotFound
from libs.contracts.estimates import Verdict
from libs.contracts.events import OverrideGranted, RolloutChanged, TurnState
from libs.contracts.inference import Role
from libs.contracts.routes import RunWish
from services.registry.domain import applying, hands, turns
from services.registry.domain.decision import PutRun
from services.registry.domain.routing import Fleet
from services.registry.domain.state import Grounds, Status
from services.registry.rpc.messages import turn_message
from services.registry.tests.world import BASE, World, adapter, engine, report, run_failure, spec_of


def shares(world: World) -> dict[int, tuple[str, float]]:
    return {arm.version: (arm.role.value, arm.share) for arm in world.route.arms}


def override(world: World, *gates: str, by: str = "grace", reason: str = "the suite misses a new product") -> None:
    world.decide(lambda task, occasion: hands.override(task, 1, gates, by, reason, occasion))


def test_a_pass_starts_with_shadow_and_nobody_sees_the_challenger() -> None:
    world = World()
    world.to_shadow()
    assert shares(world) == {0: ("stable", 1.0), 1: ("shadow", 0.0)}
    assert world.route.shadow_rate == 1.0
    (fact,) = world.facts(RolloutChanged)
    assert (fact.stage, fact.version, fact.stable_version, fact.generation) == ("shadow", 1, 0, world.route.generation)


def test_passes_lead_through_the_canary_steps_to_stable() -> None:
    world = World()
    world.to_shadow()
    seen = []
    for _ in range(4):
        world.assess(Verdict.PASS)
        seen.append(shares(world).get(1))
    assert seen == [("canary", 0.05), ("canary", 0.25), ("canary", 0.5), ("stable", 1.0)]
    assert shares(world)[0] == ("previous", 0.0)
    assert world.state is TurnState.PROMOTED
    stages = [(fact.stage, fact.share, fact.generation) for fact in world.facts(RolloutChanged)]
    assert [stage[:2] for stage in stages[1:]] == [("canary", 0.05), ("canary", 0.25), ("canary", 0.5), ("stable", 1.0)]
    assert [stage[2] for stage in stages] == sorted({stage[2] for stage in stages})


@pytest.mark.parametrize("passes", [0, 1, 2])
def test_shown_harm_takes_the_challenger_out_at_once(passes: int) -> None:
    world = World()
    world.to_shadow()
    for _ in range(passes):
        world.assess(Verdict.PASS)
    world.assess(Verdict.FAIL)
    assert shares(world) == {0: ("stable", 1.0)}
    assert (world.state, world.task.version(1).status) == (TurnState.ROLLED_BACK, Status.ROLLED_BACK)
    assert (world.facts(RolloutChanged)[-1].stage, world.facts(RolloutChanged)[-1].share) == ("rolled_back", 0.0)


def test_inconclusive_evidence_holds_for_ever() -> None:
    world = World()
    world.to_shadow()
    before = world.route
    for _ in range(50):
        world.assess(Verdict.INCONCLUSIVE)
    assert (world.route, world.state) == (before, TurnState.SHADOW)


def test_a_live_turn_tells_what_its_evidence_lacks() -> None:
    world = World()
    world.to_shadow()
    assert turn_message("triage", world.turn).waits_for == ""
    world.assess(Verdict.INCONCLUSIVE, reason="not decided: 0 pairs")
    assert turn_message("triage", world.turn).waits_for == "not decided: 0 pairs"
    world.assess(Verdict.PASS)
    assert turn_message("triage", world.turn).waits_for == ""


def test_evidence_of_another_generation_stage_or_version_does_not_count() -> None:
    world = World()
    world.to_shadow()
    for verdict in (Verdict.PASS, Verdict.FAIL):
        world.assess(verdict, generation=world.turn.generation - 1)
        world.assess(verdict, stage="canary")
        world.assess(verdict, version=7)
    assert world.state is TurnState.SHADOW


def test_a_stale_pass_holds_and_stale_harm_does_not() -> None:
    world = World()
    world.to_shadow()
    world.assess(Verdict.PASS, assessed_at=world.now - timedelta(minutes=10))
    assert (world.state, world.turn.reason) == (TurnState.SHADOW, "held: the last assessment is stale")
    world.assess(Verdict.FAIL, assessed_at=world.now - timedelta(minutes=9))
    assert world.state is TurnState.ROLLED_BACK


def test_a_version_at_hand_on_an_engine_whose_memory_is_full_counts_as_there() -> None:
    world = World()
    world.to_loading()
    version = world.task.challenger
    assert version is not None
    full = engine(at=world.now)
    assert Fleet((full,)).missing(version, world.occasion()) is not None
    ready = full.model_copy(update={"cold": (version.digest,)})
    assert Fleet((ready,)).missing(version, world.occasion()) is None


def test_a_pass_waits_for_an_engine_and_is_taken_up_when_it_is_back() -> None:
    world = World()
    world.to_shadow()
    world.has_engine = False
    world.assess(Verdict.PASS)
    assert world.state is TurnState.SHADOW
    world.has_engine = True
    world.tick()
    assert shares(world)[1] == ("canary", 0.05)


def test_a_pass_is_used_once() -> None:
    world = World()
    world.to_shadow()
    world.assess(Verdict.PASS)
    for _ in range(5):
        world.tick()
    assert shares(world)[1] == ("canary", 0.05)


def test_the_next_promotion_retires_the_version_before_the_previous_one() -> None:
    world = World()
    for watermark in (1, 2, 3):
        world.to_promoted(watermark)
    assert {version.number: version.status.value for version in world.task.versions} == {
        0: "retired", 1: "retired", 2: "previous", 3: "stable",
    }  # fmt: skip
    # The base stays loaded for the comparison of the next candidate, without a share.
    assert shares(world) == {3: ("stable", 1.0), 2: ("previous", 0.0), 0: ("candidate", 0.0)}


def test_while_a_candidate_is_there_it_is_the_first_of_the_candidates() -> None:
    world = World()
    world.to_promoted(1)
    world.to_promoted(2)
    world.to_loading(3)
    candidate = world.route.arm(Role.CANDIDATE)
    assert candidate is not None
    assert candidate.version == 3


def test_approvals_must_come_from_different_people() -> None:
    world = World(spec_of(approvals=2))
    world.to_shadow()
    assert world.state is TurnState.AWAITING_APPROVAL
    world.decide(lambda task, occasion: hands.approve(task, 1, "Ada", occasion))
    with pytest.raises(AlreadyExists, match="another person"):
        world.decide(lambda task, occasion: hands.approve(task, 1, " ada ", occasion))
    assert world.state is TurnState.AWAITING_APPROVAL
    world.decide(lambda task, occasion: hands.approve(task, 1, "grace", occasion))
    assert shares(world)[1] == ("shadow", 0.0)


def test_nobody_approves_what_does_not_wait_for_it() -> None:
    world = World()
    world.to_refused()
    with pytest.raises(FailedPrecondition, match="does not wait for approval"):
        world.decide(lambda task, occasion: hands.approve(task, 1, "ada", occasion))
    with pytest.raises(NotFound, match=r"no version triage@9; there are triage@0, triage@1"):
        world.decide(lambda task, occasion: hands.approve(task, 9, "ada", occasion))


def test_an_override_names_every_open_gate_a_person_and_a_reason() -> None:
    world = World()
    world.to_refused()
    with pytest.raises(InvalidInput, match="better-than-base"):
        override(world)
    with pytest.raises(InvalidInput, match="not among the gates"):
        override(world, "better-than-base", "made-up")
    with pytest.raises(InvalidInput, match="'by'"):
        override(world, "better-than-base", by=" ")
    with pytest.raises(InvalidInput, match="'reason'"):
        override(world, "better-than-base", reason="")
    assert world.task.version(1).status is Status.REFUSED


def test_an_override_goes_to_the_first_canary_step_once_loaded_and_stays_watched() -> None:
    world = World()
    world.to_refused()
    override(world, "better-than-base")
    assert (world.state, shares(world)[1]) == (TurnState.LOADING, ("candidate", 0.0))
    (granted,) = world.facts(OverrideGranted)
    assert (granted.by, granted.gates, granted.version) == ("grace", ("better-than-base",), 1)
    world.tick()
    assert (world.state, shares(world)[1]) == (TurnState.CANARY, ("canary", 0.05))
    world.assess(Verdict.FAIL)
    assert (world.state, shares(world)) == (TurnState.ROLLED_BACK, {0: ("stable", 1.0)})


def test_an_override_ends_with_its_turn() -> None:
    world = World()
    world.to_refused()
    override(world, "better-than-base")
    world.decide(lambda task, occasion: hands.steer(task, world.turn.turn_id, "cancel", "ada", "", occasion))
    version = world.task.version(1)
    assert (version.status, version.grounds) == (Status.REFUSED, Grounds.NONE)


def test_only_a_refused_version_can_be_overridden() -> None:
    world = World()
    world.to_shadow()
    world.assess(Verdict.FAIL)
    with pytest.raises(FailedPrecondition, match="rolled_back"):
        override(world, "better-than-base")


def test_an_override_without_a_step_to_watch_at_is_refused() -> None:
    world = World(spec_of(rollout={"canary": {"steps": [100]}}))
    world.to_refused()
    with pytest.raises(FailedPrecondition, match="below 100"):
        override(world, "better-than-base")


def test_a_rollback_by_hand_puts_the_previous_version_back() -> None:
    world = World()
    world.to_promoted()
    world.decide(lambda task, occasion: hands.roll_back(task, "ada", "complaints", occasion))
    assert shares(world) == {0: ("stable", 1.0)}
    assert world.task.version(1).status is Status.ROLLED_BACK
    assert world.records("rolled_back")[-1].by == "ada"
    assert world.facts(RolloutChanged)[-1].stable_version == 0
    with pytest.raises(FailedPrecondition, match="nothing to roll back to"):
        world.decide(lambda task, occasion: hands.roll_back(task, "ada", "again", occasion))


def test_a_rollback_during_a_canary_takes_the_challenger_and_leaves_stable() -> None:
    world = World()
    world.to_promoted(1)
    world.to_shadow(2)
    world.assess(Verdict.PASS)
    world.decide(lambda task, occasion: hands.roll_back(task, "ada", "complaints", occasion))
    assert (world.state, world.task.stable.number) == (TurnState.ROLLED_BACK, 1)
    assert world.task.previous is not None


def test_a_rollback_cancels_a_comparison_with_the_version_that_goes() -> None:
    world = World()
    world.to_promoted(1)
    world.to_evaluating(2)
    world.decide(lambda task, occasion: hands.roll_back(task, "ada", "complaints", occasion))
    assert (world.state, world.task.stable.number) == (TurnState.CANCELLED, 0)


def test_training_can_be_paused_resumed_and_cancelled() -> None:
    world = World()
    world.to_training()
    turn_id = world.turn.turn_id
    for wish in ("pause", "pause", "run", "cancel"):
        world.decide(lambda task, occasion, wish=wish: hands.steer(task, turn_id, wish, "ada", "lunch", occasion))
    wishes = [(effect.state.wish, effect.number) for effect in world.effects if isinstance(effect, PutRun)]
    assert wishes == [(RunWish.PAUSE, 1), (RunWish.RUN, 2), (RunWish.CANCEL, 3)]
    assert world.state is TurnState.CANCELLED
    world.decide(turns.run_failed, run_failure(world.turn, cancelled=True))
    assert world.state is TurnState.CANCELLED


def test_steering_says_what_is_possible() -> None:
    world = World()
    world.to_evaluating()
    turn_id = world.turn.turn_id
    with pytest.raises(FailedPrecondition, match="only training"):
        world.decide(lambda task, occasion: hands.steer(task, turn_id, "pause", "ada", "", occasion))
    with pytest.raises(InvalidInput, match="run, pause, cancel"):
        world.decide(lambda task, occasion: hands.steer(task, turn_id, "stop", "ada", "", occasion))
    world.decide(turns.report_completed, report(world.turn, Verdict.FAIL))
    with pytest.raises(FailedPrecondition, match="it is refused"):
        world.decide(lambda task, occasion: hands.steer(task, turn_id, "cancel", "ada", "", occasion))


def test_cancelling_a_canary_gives_stable_everything_back_and_ends_the_watch() -> None:
    world = World()
    world.to_shadow()
    world.assess(Verdict.PASS)
    world.decide(lambda task, occasion: hands.steer(task, world.turn.turn_id, "cancel", "ada", "", occasion))
    assert shares(world) == {0: ("stable", 1.0)}
    assert world.facts(RolloutChanged)[-1].stage == "rolled_back"


def test_the_same_specification_again_changes_nothing() -> None:
    world = World()
    before, effects = world.task, len(world.effects)
    world.decide(lambda task, occasion: applying.apply(task, spec_of(), BASE, "ada", occasion))
    assert (world.task, len(world.effects)) == (before, effects)


def test_a_changed_task_in_the_middle_of_a_stage_starts_its_evidence_anew() -> None:
    world = World()
    world.to_shadow()
    world.assess(Verdict.PASS)
    old = world.turn.generation
    changed = spec_of(system="Be brief.")
    world.decide(lambda task, occasion: applying.apply(task, changed, BASE, "ada", occasion))
    assert (world.route.system, world.route.salt) == ("Be brief.", world.routes[0].salt)
    assert world.turn.generation == world.route.generation == old + 1
    assert shares(world)[1] == ("canary", 0.05)
    fact = world.facts(RolloutChanged)[-1]
    assert (fact.stage, fact.share, fact.generation) == ("canary", 0.05, old + 1)
    world.assess(Verdict.PASS, generation=old)
    assert shares(world)[1] == ("canary", 0.05)


def test_another_base_needs_another_task_once_there_are_versions() -> None:
    world = World()
    other = adapter(99)
    world.decide(lambda task, occasion: applying.apply(task, spec_of(), other, "ada", occasion))
    assert [arm.digest for arm in world.route.arms] == [other]
    world = World()
    world.to_refused()
    with pytest.raises(FailedPrecondition, match="new task name"):
        world.decide(lambda task, occasion: applying.apply(task, spec_of(), other, "ada", occasion))


def test_a_task_without_gates_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least one gate"):
        applying.declare("default", spec_of(evaluation={"gates": []}), BASE, "ada")


def test_an_arm_without_grounds_never_gets_into_a_route() -> None:
    from services.registry.domain.routing import compose

    world = World()
    world.to_refused()
    slipped = world.task.with_version(1, status=Status.CANARY)
    with pytest.raises(FailedPrecondition, match="neither passed its gates nor an override"):
        compose(slipped)
