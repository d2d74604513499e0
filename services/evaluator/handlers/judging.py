"""Scores that ask a model: judges and embeddings. What fails, fails for one item, with its reason."""

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from libs.contracts.commands import EvaluateModel
from libs.contracts.errors import InvalidInput, PawlError, Transient
from libs.contracts.inference import Message
from libs.contracts.task import MetricSpec
from libs.telemetry import get_logger
from services.evaluator.clients.outside import OutsideModel
from services.evaluator.domain import judge
from services.evaluator.domain.answers import Answer, Arm, answer_key
from services.evaluator.domain.campaign_standing import standing_of
from services.evaluator.domain.metrics.core import Column, Sample
from services.evaluator.domain.metrics.registry import REMOTE
from services.evaluator.domain.sheet import Suite, refused, samples_of
from services.evaluator.handlers.generation import Generation, Job, Outside
from services.evaluator.store.campaigns import Campaigns

log = get_logger(__name__)

_BATCH = 64

Admission = Callable[[MetricSpec], Awaitable[str | None]]
"""Why a judge is not to be believed, or None once experts' votes have calibrated it."""


def admission_by(campaigns: Campaigns) -> Admission:
    """Judges are admitted by the standing of the campaign that the task file names, under the metric's name."""

    async def doubt(spec: MetricSpec) -> str | None:
        if spec.campaign is None:
            return "no campaign of experts' votes calibrates this judge: name one in the metric's 'campaign'"
        whole = await campaigns.everything(spec.campaign)
        told = standing_of(whole.campaign, whole.items, whole.slots, whole.ballots, whole.judgements)
        judged = told["judges"].get(spec.name)
        if judged is None:
            return f"campaign {spec.campaign} holds no judgements by {spec.name!r}"
        return None if judged["admitted"] else f"campaign {spec.campaign}: {judged['reason']}"

    return doubt


@dataclass(frozen=True, slots=True)
class _Constrained:
    """A judge held to a schema, in the shape of a generator."""

    model: OutsideModel
    pairwise: bool

    async def generate(
        self, model: str, messages: Sequence[Message], *, item_id: str, request_id: str, max_tokens: int
    ) -> tuple[Answer, str]:
        """The judge's word on one item."""
        del max_tokens  # the answer's limit, not the judge's
        schema = judge.PAIR_SCHEMA if self.pairwise else judge.RUBRIC_SCHEMA
        return await self.model.constrained(model, messages, schema, item_id, request_id, judge.MAX_TOKENS)


class Judging:
    """Scores arms by the metrics that ask a model."""

    def __init__(
        self, generation: Generation, open_model: Callable[[MetricSpec], OutsideModel], admission: Admission
    ) -> None:
        self._generation = generation
        self._open = open_model
        self._admission = admission

    async def columns(self, command: EvaluateModel, suite: Suite, arms: Sequence[Arm]) -> dict[str, dict[str, Column]]:
        """Arm -> metric -> column, for every metric of the task file that asks a model."""
        found: dict[str, dict[str, Column]] = {arm.name: {} for arm in arms}
        for spec in command.spec.evaluation.metrics:
            if spec.kind not in REMOTE:
                continue
            model = self._open(spec)
            doubt = None if spec.kind == "embedding" else await self._admission(spec)
            try:
                for arm in arms:
                    made = await self._column(command, spec, model, suite, arm, arms)
                    found[arm.name][spec.name] = replace(made, doubt=doubt)
            finally:
                await model.close()
        return found

    async def _column(
        self, command: EvaluateModel, spec: MetricSpec, model: OutsideModel, suite: Suite, arm: Arm, arms: Sequence[Arm]
    ) -> Column:
        samples, lost = samples_of(arm, suite.items), refused(arm, suite.items)
        if spec.kind == "embedding":
            return await _similarities(command, spec, model, samples, lost)
        if spec.kind == "judge":
            asks = [(judge.ask_grade(spec.rubric or "", sample),) for sample in samples]
            return await self._judged(
                command, spec, model, suite, arm, asks, lost, lambda text, _: judge.read_grade(text)
            )
        other = next((each for each in arms if each.name == spec.against), None)
        if other is None:
            raise InvalidInput(f"metric {spec.name!r}: no arm {spec.against!r}", field="evaluation.metrics")
        if other.name == arm.name:
            return Column(judge.signature(spec), tuple(0.5 for _ in samples))
        others = [each.text for each in samples_of(other, suite.items)]
        pairs = [
            tuple(judge.ask_better(spec.rubric or "", sample, theirs, swapped=swapped) for swapped in (False, True))
            for sample, theirs in zip(samples, others, strict=True)
        ]
        return await self._judged(
            command,
            spec,
            model,
            suite,
            arm,
            pairs,
            lost,
            lambda text, place: judge.read_better(text, swapped=place == 1),
        )

    async def _judged(
        self,
        command: EvaluateModel,
        spec: MetricSpec,
        model: OutsideModel,
        suite: Suite,
        arm: Arm,
        asks: Sequence[Sequence[tuple[Message, ...]]],
        lost: set[int],
        read: Callable[[str, int], float],
    ) -> Column:
        assert spec.endpoint is not None
        constrained = _Constrained(model, spec.kind == "judge_pairwise")
        jobs: dict[tuple[int, int], Job] = {}
        for place, questions in enumerate(asks):
            for turn, messages in enumerate(questions):
                if place not in lost:
                    key = answer_key(f"judge:{model.name}", "", messages, judge.MAX_TOKENS, command.report_id)
                    item_id = suite.items[place].item_id
                    jobs[place, turn] = Job(key, spec.name, item_id, spec.name, "", (messages,), spec.name)
        outside = {spec.name: Outside(constrained, spec.endpoint.concurrency)}
        told = await self._generation.answer(command, list(jobs.values()), outside, strict=False)
        scores: list[float | None] = []
        failures: dict[int, str] = {}
        for place, questions in enumerate(asks):
            words = [told[jobs[place, turn].key] for turn in range(len(questions))] if place not in lost else []
            try:
                scores.append(_mean([_read(word, turn, read) for turn, word in enumerate(words)]) if words else 0.0)
            except InvalidInput as error:
                scores.append(None)
                failures[place] = str(error)
        if failures:
            log.warning("the judge failed on items", metric=spec.name, arm=arm.name, items=len(failures))
        return Column(judge.signature(spec), tuple(scores), failures=failures)


async def _similarities(
    command: EvaluateModel, spec: MetricSpec, model: OutsideModel, samples: Sequence[Sample], lost: set[int]
) -> Column:
    """Cosine similarity to the right answer, 0 where it is negative."""
    scores: list[float | None] = [0.0] * len(samples)
    failures: dict[int, str] = {}
    places = [place for place in range(len(samples)) if place not in lost]
    for start in range(0, len(places), _BATCH):
        some = places[start : start + _BATCH]
        texts = [text or " " for place in some for text in (samples[place].text, samples[place].reference)]
        try:
            vectors = await model.embed(texts, f"{command.report_id}/{spec.name}/{start}")
            for row, place in enumerate(some):
                scores[place] = _cosine(vectors[2 * row], vectors[2 * row + 1])
        except Transient:
            raise
        except PawlError as error:
            for place in some:
                scores[place] = None
                failures[place] = str(error)
    assert spec.endpoint is not None
    return Column(f"embedding|{spec.endpoint.model}|cosine|v1", tuple(scores), failures=failures)


def _better(text: str, turn: int) -> float:
    return judge.read_better(text, swapped=turn == 1)


def _read(word: Answer, turn: int, read: Callable[[str, int], float]) -> float:
    if word.error:
        raise InvalidInput(word.error, field="judge")
    return read(word.text, turn)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _cosine(left: Sequence[float], right: Sequence[float]) -> float:
    norms = math.sqrt(math.fsum(x * x for x in left)) * math.sqrt(math.fsum(x * x for x in right))
    product = math.fsum(x * y for x, y in zip(left, right, strict=True))
    return min(1.0, max(0.0, product / norms)) if norms else 0.0
