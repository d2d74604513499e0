"""A world without wires: a task, the facts the other services would publish, and the effects decided so far."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from libs.contracts.commands import EvaluateModel
from libs.contracts.estimates import Estimate, Verdict
from libs.contracts.events import (
    Assessment,
    DatasetBuilt,
    GateResult,
    ImportCompleted,
    ReportCompleted,
    RunCompleted,
    RunFailed,
    RunProgressed,
    SegmentWritten,
    TurnState,
)
from libs.contracts.ids import digest_bytes
from libs.contracts.routes import EngineReport, Route
from libs.contracts.task import TaskSpec
from services.registry.domain import applying, triggers
from services.registry.domain.decision import Decision, Effect, Publish, PutRoute, Record, Send
from services.registry.domain.rollout import assessed, look_again
from services.registry.domain.routing import Fleet
from services.registry.domain.state import Occasion, Task, Turn
from services.registry.domain.turns import (
    dataset_built,
    engines_reported,
    report_completed,
    run_completed,
)

T = TypeVar("T")
BASE = digest_bytes(b"base")
TRACE = "00-11111111111111111111111111111111-2222222222222222-01"
START = datetime(2026, 1, 1, tzinfo=UTC)


def adapter(number: int) -> str:
    return digest_bytes(f"adapter {number}".encode())


def spec_of(**changes: Any) -> TaskSpec:
    return TaskSpec.model_validate({"task": "triage", "base": "base", "triggers": {"corrections": 10}, **changes})


def segment(number: int, corrections: int = 0, source: str = "desk", **more: int) -> SegmentWritten:
    given = {"correction": corrections} if corrections else {}
    kinds = {**given, **more}
    return SegmentWritten(
        tenant="default", task="triage", number=number, digest=digest_bytes(b"s"), rows=sum(kinds.values()),
        kinds=kinds, corrections={source: corrections} if corrections else {},
    )  # fmt: skip


def imported(watermark: int, accepted: int = 100) -> ImportCompleted:
    return ImportCompleted(
        tenant="default", task="triage", import_id="i", name="f.csv", rows=100, accepted=accepted, quarantined=0,
        watermark=watermark,
    )  # fmt: skip


def built(turn: Turn) -> DatasetBuilt:
    digest = digest_bytes(f"dataset {turn.dataset_number}".encode())
    return DatasetBuilt(
        tenant="default", task="triage", number=turn.dataset_number, digest=digest, report_digest=digest,
        suite_digest=digest_bytes(b"suite"), suite_version=1, splits={"train": 70, "validation": 5, "test": 25},
        removed={}, categories={},
    )  # fmt: skip


def progressed(turn: Turn, step: int, epoch: int = 1, loss: float = 1.0) -> RunProgressed:
    return RunProgressed(
        tenant="default", task="triage", run_id=turn.run_id, epoch=epoch, step=step, total_steps=1000, loss=loss,
        learning_rate=1e-4, tokens_per_second=10.0, eta_seconds=1.0,
    )  # fmt: skip


def trained(turn: Turn, number: int, epoch: int = 1, base: str = BASE) -> RunCompleted:
    return RunCompleted(
        tenant="default", task="triage", run_id=turn.run_id, epoch=epoch, adapter_digest=adapter(number),
        run_manifest_digest=digest_bytes(b"manifest"), base_digest=base, dataset_digest=turn.dataset_digest,
        steps=10, seconds=1.0, final_loss=0.5, loss_curve=((1, 2.0), (10, 0.5)),
    )  # fmt: skip


def run_failure(turn: Turn, epoch: int = 1, *, cancelled: bool = False) -> RunFailed:
    return RunFailed(
        tenant="default", task="triage", run_id=turn.run_id, epoch=epoch, reason="out of memory", cancelled=cancelled
    )


def report(turn: Turn, verdict: Verdict, gates: tuple[str, ...] = ("better-than-base",)) -> ReportCompleted:
    estimate = Estimate(value=0.1, low=0.05, high=0.15, n=100)
    return ReportCompleted(
        tenant="default", task="triage", report_id=turn.report_id, report_digest=digest_bytes(b"report"),
        version=turn.version, verdict=verdict, arms={"base": {"exact_match": estimate}},
        gates=tuple(
            GateResult(gate=gate, verdict=verdict, reason="as measured", metric="exact_match", estimate=estimate)
            for gate in gates
        ),
    )  # fmt: skip


def assessment(turn: Turn, verdict: Verdict, at: datetime, **changes: Any) -> Assessment:
    values: dict[str, Any] = {
        "tenant": "default", "task": "triage", "generation": turn.generation, "stage": turn.state.value,
        "version": turn.version, "verdict": verdict, "reason": "evidence", "e_value": 30.0, "alpha": 0.05,
        "assessed_at": at,
    }  # fmt: skip
    return Assessment(**values | changes)


def engine(
    *routable: str, at: datetime, failed: dict[str, str] | None = None, name: str = "e1", base: str = BASE
) -> EngineReport:
    return EngineReport(
        engine_id=name, address="127.0.0.1:1", base_digest=base, routable=(base, *routable), failed=failed or {},
        started_at=START, beat_at=at,
    )  # fmt: skip


class World:
    """Facts go in by `hear`; what became of the task and every effect so far is here to look at."""

    def __init__(self, spec: TaskSpec | None = None) -> None:
        self.now = START
        self.count = 0
        self.effects: list[Effect] = []
        declared = applying.declare("default", spec or spec_of(), BASE, "ada")
        self.task = declared.task
        self.effects += declared.effects
        self.loaded: list[str] = []
        self.refusals: dict[str, str] = {}
        self.has_engine = True
        self.more_bases: list[str] = []

    def occasion(self) -> Occasion:
        self.count += 1
        self.now += timedelta(seconds=1)
        return Occasion(f"fact-{self.count}", self.now, TRACE)

    def decide(self, rule: Callable[..., Decision], *arguments: Any) -> Task:
        """One decision, with the question whether a turn is due behind it, as the store does it."""
        occasion = self.occasion()
        decision = rule(self.task, *arguments, occasion).then(lambda task: triggers.consider(task, occasion))
        self.task = decision.task
        self.effects += decision.effects
        return self.task

    def fleet(self) -> Fleet:
        at = self.now
        others = (engine(at=at, name=f"of-{base}", base=base) for base in self.more_bases)
        return Fleet((*others, engine(*self.loaded, at=at, failed=self.refusals)) if self.has_engine else ())

    def tick(self) -> Task:
        self.decide(lambda task, occasion: engines_reported(task, self.fleet(), occasion))
        return self.decide(lambda task, occasion: look_again(task, self.fleet(), occasion))

    def assess(self, verdict: Verdict, **changes: Any) -> Task:
        fact = assessment(self.turn, verdict, self.now, **changes)
        return self.decide(lambda task, occasion: assessed(task, fact, self.fleet(), occasion))

    @property
    def turn(self) -> Turn:
        assert self.task.turn is not None
        return self.task.turn

    @property
    def state(self) -> TurnState:
        return self.turn.state

    @property
    def route(self) -> Route:
        return self.routes[-1]

    @property
    def routes(self) -> list[Route]:
        return [effect.route for effect in self.effects if isinstance(effect, PutRoute)]

    def facts(self, kind: type[T]) -> list[T]:
        return [e.fact for e in self.effects if isinstance(e, Publish) and isinstance(e.fact, kind)]

    def commands(self, kind: type[T]) -> list[T]:
        return [e.command for e in self.effects if isinstance(e, Send) and isinstance(e.command, kind)]

    def records(self, action: str) -> list[Record]:
        return [effect for effect in self.effects if isinstance(effect, Record) and effect.action == action]

    def to_training(self, watermark: int = 1) -> None:
        self.decide(triggers.segment_written, segment(watermark, example=100))
        self.decide(triggers.import_completed, imported(watermark))
        self.decide(dataset_built, built(self.turn))

    def to_loading(self, watermark: int = 1) -> None:
        self.to_training(watermark)
        self.decide(run_completed, trained(self.turn, len(self.task.versions)))

    def to_evaluating(self, watermark: int = 1) -> EvaluateModel:
        self.to_loading(watermark)
        self.load()
        return self.commands(EvaluateModel)[-1]

    def load(self) -> None:
        challenger = self.task.challenger
        assert challenger is not None
        self.loaded.append(challenger.digest)
        self.tick()

    def to_shadow(self, watermark: int = 1) -> None:
        self.to_evaluating(watermark)
        self.decide(report_completed, report(self.turn, Verdict.PASS))

    def to_promoted(self, watermark: int = 1) -> None:
        self.to_shadow(watermark)
        while self.turn.is_open:
            self.assess(Verdict.PASS)

    def to_refused(self, watermark: int = 1, verdict: Verdict = Verdict.INCONCLUSIVE) -> None:
        self.to_evaluating(watermark)
        self.decide(report_completed, report(self.turn, verdict))
