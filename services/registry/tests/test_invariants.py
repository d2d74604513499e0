"""Whatever order facts come in, how often, and whatever people do in between, the catch holds."""

from collections import Counter
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from libs.contracts.errors import PawlError
from libs.contracts.estimates import Verdict
from libs.contracts.events import DatasetRefused, OverrideGranted, TurnState
from libs.contracts.inference import Role
from services.registry.domain import applying, hands, rollout, triggers, turns
from services.registry.domain.state import Task, Turn
from services.registry.tests.world import (
    BASE,
    World,
    assessment,
    built,
    imported,
    progressed,
    report,
    run_failure,
    segment,
    spec_of,
    trained,
)

VERDICTS = st.sampled_from(list(Verdict))
REACHED: Counter[TurnState] = Counter()
PEOPLE = st.sampled_from(["ada", "grace", ""])


class Facts(RuleBasedStateMachine):
    """Facts about present and past turns, true, repeated, late and early; and hands on every lever."""

    def __init__(self) -> None:
        super().__init__()
        gates = [{"name": "better-than-base", "kind": "superiority", "against": "base"}]
        self.world = World(spec_of(approvals=1, evaluation={"gates": gates}))
        self.past: list[tuple[Any, Any]] = []
        self.segments = 0
        self.passed: set[int] = set()
        self.overridden: set[int] = set()

    def hear(self, rule: Any, fact: Any) -> None:
        self.past.append((rule, fact))
        self.world.decide(rule, fact)

    def by_hand(self, decide: Any) -> None:
        try:
            self.world.decide(decide)
        except PawlError:
            return

    @property
    def turn(self) -> Turn | None:
        return self.world.task.turn

    @rule(corrections=st.integers(0, 20), again=st.booleans())
    def data_arrives(self, corrections: int, again: bool) -> None:
        self.segments += 1
        self.hear(triggers.segment_written, segment(self.segments, corrections, example=10))
        if again:
            self.hear(triggers.import_completed, imported(self.segments))

    @rule(refused=st.booleans())
    def curation_answers(self, refused: bool) -> None:
        if self.turn is None:
            return
        if refused:
            number = self.turn.dataset_number
            fact = DatasetRefused(tenant="default", task="triage", number=number, reason="too few")
            self.hear(turns.dataset_refused, fact)
        else:
            self.hear(turns.dataset_built, built(self.turn))

    @rule(what=st.sampled_from(["progress", "done", "failed"]), epoch=st.integers(1, 3), seed=st.integers(1, 99))
    def trainer_reports(self, what: str, epoch: int, seed: int) -> None:
        if self.turn is None:
            return
        if what == "progress":
            self.hear(turns.run_progressed, progressed(self.turn, seed, epoch))
        elif what == "done":
            self.hear(turns.run_completed, trained(self.turn, 100 * len(self.world.task.versions) + seed, epoch))
        else:
            self.hear(turns.run_failed, run_failure(self.turn, epoch))

    @rule(here=st.booleans(), refuse=st.integers(0, 9))
    def engines_report(self, here: bool, refuse: int) -> None:
        self.world.has_engine = here
        challenger = self.world.task.challenger
        if challenger is not None and refuse == 0:
            self.world.refusals = {challenger.digest: "no room"}
        elif challenger is not None:
            self.world.refusals = {}
            self.world.loaded.append(challenger.digest)
        self.world.tick()

    @rule(verdict=VERDICTS, complete=st.booleans())
    def evaluator_reports(self, verdict: Verdict, complete: bool) -> None:
        if self.turn is None:
            return
        if not self.turn.report_id:
            return
        counts = self.turn.state is TurnState.EVALUATING and verdict is Verdict.PASS and complete
        if counts:
            self.passed.add(self.turn.version)
        gates = ("better-than-base",) if complete else ()
        self.hear(turns.report_completed, report(self.turn, verdict, gates))

    @rule(verdict=VERDICTS, age=st.integers(0, 2), stage=st.sampled_from(["shadow", "canary", ""]))
    def monitors_assess(self, verdict: Verdict, age: int, stage: str) -> None:
        if self.turn is None:
            return
        changes: dict[str, Any] = {"generation": max(self.turn.generation - age, 0)}
        if stage:
            changes["stage"] = stage
        fact, fleet = assessment(self.turn, verdict, self.world.now, **changes), self.world.fleet()
        self.hear(lambda task, fact, occasion: rollout.assessed(task, fact, fleet, occasion), fact)

    @rule(times=st.integers(1, 9), good=st.booleans())
    def what_the_turn_waits_for_happens(self, times: int, good: bool) -> None:
        for _ in range(times):
            if self.world.task.open_turn is None:
                self.data_arrives(20, again=True)
            else:
                self.go_on(good)

    def go_on(self, good: bool) -> None:
        turn = self.world.turn
        match turn.state:
            case TurnState.CURATING:
                self.curation_answers(refused=False)
            case TurnState.TRAINING:
                self.trainer_reports("done", 3, 1)
            case TurnState.LOADING:
                self.engines_report(here=True, refuse=9)
            case TurnState.EVALUATING:
                self.evaluator_reports(Verdict.PASS if good else Verdict.INCONCLUSIVE, complete=True)
            case TurnState.AWAITING_APPROVAL:
                self.somebody_approves("linus", turn.version)
            case _:
                self.world.has_engine = True
                self.monitors_assess(Verdict.PASS, 0, "")
        REACHED[turn.state] += 1
        REACHED[self.world.turn.state] += 1

    @rule(data=st.data())
    def an_old_fact_comes_again(self, data: st.DataObject) -> None:
        if not self.past:
            return
        rule, fact = data.draw(st.sampled_from(self.past))
        self.world.decide(rule, fact)

    @rule(by=PEOPLE, number=st.integers(0, 4))
    def somebody_approves(self, by: str, number: int) -> None:
        self.by_hand(lambda task, occasion: hands.approve(task, number, by, occasion))

    @rule(by=PEOPLE, number=st.integers(0, 4), named=st.booleans())
    def somebody_overrides(self, by: str, number: int, named: bool) -> None:
        gates = ("better-than-base",) if named else ()
        self.by_hand(lambda task, occasion: hands.override(task, number, gates, by, "because", occasion))

    @rule(by=PEOPLE)
    def somebody_rolls_back(self, by: str) -> None:
        self.by_hand(lambda task, occasion: hands.roll_back(task, by, "because", occasion))

    @rule(by=PEOPLE, wish=st.sampled_from(["pause", "run", "cancel", "stop"]))
    def somebody_steers(self, by: str, wish: str) -> None:
        turn_id = self.turn.turn_id if self.turn is not None else "turn-none"
        self.by_hand(lambda task, occasion: hands.steer(task, turn_id, wish, by, "", occasion))

    @rule(by=PEOPLE)
    def somebody_starts(self, by: str) -> None:
        self.by_hand(lambda task, occasion: triggers.open_by_hand(task, by, occasion))

    @rule(system=st.sampled_from(["", "Be brief."]))
    def somebody_applies(self, system: str) -> None:
        spec = self.world.task.spec.model_copy(update={"system": system})
        self.by_hand(lambda task, occasion: applying.apply(task, spec, BASE, "ada", occasion))

    @invariant()
    def nobody_is_served_without_grounds(self) -> None:
        self.overridden |= {fact.version for fact in self.world.facts(OverrideGranted)}
        for route in self.world.routes:
            for arm in route.arms:
                if arm.version and (arm.share > 0 or arm.role in (Role.STABLE, Role.CANARY, Role.SHADOW)):
                    assert arm.version in self.passed | self.overridden

    @invariant()
    def somebody_always_serves_and_shares_sum_to_one(self) -> None:
        for route in self.world.routes:
            assert [arm.role for arm in route.arms].count(Role.STABLE) == 1
            assert abs(sum(arm.share for arm in route.arms) - 1.0) < 1e-9
            assert all(arm.share == 0 for arm in route.arms if arm.role not in (Role.STABLE, Role.CANARY))
            assert len({arm.version for arm in route.arms}) == len(route.arms)

    @invariant()
    def generations_rise_by_one(self) -> None:
        generations = [route.generation for route in self.world.routes]
        assert generations == list(range(1, len(generations) + 1))

    @invariant()
    def a_turn_that_ended_stays_ended_and_one_is_open_at_most(self) -> None:
        task: Task = self.world.task
        if task.turn is not None:
            assert [step.state for step in task.turn.steps][-1] == task.turn.state
            ends = [step for step in task.turn.steps if step.state in ("promoted", "refused", "rolled_back", "failed")]
            assert len(ends) <= 1
        moving = [version for version in task.versions if version.status in ("candidate", "shadow", "canary")]
        assert len(moving) <= 1
        if moving:
            assert task.open_turn is not None
            assert task.open_turn.version == moving[0].number


WALKS = settings(
    max_examples=80, stateful_step_count=40, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)  # fmt: skip


def test_whatever_happens_the_catch_holds() -> None:
    run_state_machine_as_test(Facts, settings=WALKS)
    # A walk that never gets to users would prove nothing.
    reached = [REACHED[state] for state in (TurnState.REFUSED, TurnState.SHADOW, TurnState.CANARY, TurnState.PROMOTED)]
    assert min(reached) > 5, REACHED
