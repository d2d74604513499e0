"""Scores that ask a model: judges and embeddings. What fails, fails for one item, with its reason."""

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from libs.contracts.commands import EvaluateModel
from libs.contracts.errors import InvalidInput
from libs.contracts.inference import Message, Provenance
from libs.contracts.task import MetricSpec
from libs.telemetry import get_logger
from services.evaluator.clients.outside import OutsideModel
from services.evaluator.domain import judge
from services.evaluator.domain.admission import Standing, standing_with
from services.evaluator.domain.answers import Answer, Arm, answer_key
from services.evaluator.domain.metrics.core import Column
from services.evaluator.domain.metrics.registry import REMOTE
from services.evaluator.domain.sheet import Suite, refused, samples_of
from services.evaluator.handlers.generation import Generation, Generator, Job, Outside
from services.evaluator.store.campaigns import Campaigns

log = get_logger(__name__)


Admission = Callable[[MetricSpec], Awaitable[Standing]]
"""How a judge stands before it counts."""


def admission_by(campaigns: Campaigns) -> Admission:
    """Judges are admitted by the standing of the campaign that the task file names, under the metric's name."""

    async def standing(spec: MetricSpec) -> Standing:
        if spec.campaign is None:
            return Standing("no campaign of experts' votes calibrates this judge: name one in the metric's 'campaign'")
        whole = await campaigns.everything(spec.campaign)
        return standing_with(whole, spec.name, spec.kind)

    return standing


@dataclass(frozen=True, slots=True)
class _Constrained:
    """A judge held to a schema, in the shape of a generator."""

    model: OutsideModel
    spec: MetricSpec
    form: str

    async def generate(
        self, model: str, messages: Sequence[Message], *, item_id: str, request_id: str, max_tokens: int, tools: str
    ) -> tuple[Answer, str]:
        """The judge's word on one item."""
        del max_tokens, tools  # the answer's, not the judge's
        schema, asked = judge.schema_of(self.spec), tuple(messages)
        if self.form != judge.FORMS[0]:
            asked = judge.in_words(asked, schema)
        return await self.model.constrained(
            model, asked, schema, item_id, request_id, judge.MAX_TOKENS, self.form
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Nearness:
    """How near two texts are by a model's embeddings, in the shape of a generator: the answer is a number."""

    model: OutsideModel

    async def generate(
        self, model: str, messages: Sequence[Message], *, item_id: str, request_id: str, max_tokens: int, tools: str
    ) -> tuple[Answer, str]:
        """Cosine similarity of the messages' two texts, 0 where it is negative."""
        del max_tokens, tools
        left, right = await self.model.embed([message.content or " " for message in messages], request_id)
        return Answer(item_id, repr(_cosine(left, right)), Provenance(base_digest="")), model


@dataclass(frozen=True, slots=True)
class _Sitting:
    """One metric that asks a model, for one report. Answers of another `form` or `occasion` are never found again."""

    command: EvaluateModel
    spec: MetricSpec
    model: OutsideModel
    form: str
    occasion: str

    def generator(self) -> Generator:
        """Whom to ask."""
        return (
            _Nearness(self.model) if self.spec.kind == "embedding" else _Constrained(self.model, self.spec, self.form)
        )

    def job(self, item_id: str, messages: tuple[Message, ...]) -> Job:
        """One question."""
        who = f"{'embedding' if self.spec.kind == 'embedding' else 'judge'}:{self.model.name}|{self.form}"
        key = answer_key(who, "", messages, judge.MAX_TOKENS, f"{self.command.report_id}{self.occasion}")
        return Job(key, self.spec.name, item_id, self.spec.name, "", (messages,), self.spec.name)


class Judging:
    """Scores arms by the metrics that ask a model."""

    def __init__(
        self, generation: Generation, open_model: Callable[[MetricSpec], OutsideModel], admission: Admission
    ) -> None:
        self._generation = generation
        self._open = open_model
        self._admission = admission

    async def columns(
        self,
        command: EvaluateModel,
        suite: Suite,
        arms: Sequence[Arm],
        occasion: str = "",
    ) -> dict[str, dict[str, Column]]:
        """Arm -> metric -> column, for every metric of the task file that asks a model.

        A pairwise judge has nothing to say of a suite that the arm it compares with was not run on. What was said for
        the same report on another `occasion` is asked again.
        """
        found: dict[str, dict[str, Column]] = {arm.name: {} for arm in arms}
        names = {arm.name for arm in arms}
        for spec in command.spec.evaluation.metrics:
            if spec.kind not in REMOTE or (spec.against is not None and spec.against not in names):
                continue
            model = self._open(spec)
            try:
                standing = Standing(None) if spec.kind == "embedding" else await self._admission(spec)
                sitting = _Sitting(command, spec, model, await self._form(command, spec, model), occasion)
                for arm in arms:
                    made = await self._column(sitting, suite, arm, arms)
                    found[arm.name][spec.name] = replace(
                        made, doubt=standing.doubt, tilt=standing.tilt, admission=standing.seen
                    )
            finally:
                await model.close()
        return found

    async def _form(self, command: EvaluateModel, spec: MetricSpec, model: OutsideModel) -> str:
        """The strictest form of JSON that the judge's endpoint takes and answers in, found out once for a report.

        Where no form gives what can be read, the strictest that is taken.
        """
        if spec.kind == "embedding":
            return ""
        taken = ""
        for form in judge.FORMS:
            job = (sitting := _Sitting(command, spec, model, form, "")).job("judge:probe", judge.probe(spec))
            word = (await self._asked(sitting, [job]))[job.key]
            if not word.error and judge.readable(spec, word.text):
                taken = form
                break
            taken = taken or ("" if word.error else form)
        form = taken or judge.FORMS[0]
        if form != judge.FORMS[0]:
            log.warning("the judge's endpoint is not held to the schema", metric=spec.name, model=model.name, form=form)
        return form

    async def _column(self, sitting: _Sitting, suite: Suite, arm: Arm, arms: Sequence[Arm]) -> Column:
        spec, samples = sitting.spec, samples_of(arm, suite.items)
        if spec.kind == "embedding":
            pairs = [
                ((Message(role="assistant", content=each.text), Message(role="assistant", content=each.reference)),)
                for each in samples
            ]
            return await self._told(sitting, suite, arm, pairs, lambda text, _: float(text))
        if spec.kind == "judge":
            asks = [(judge.ask_grade(spec.rubric or "", sample),) for sample in samples]
            return await self._told(sitting, suite, arm, asks, lambda text, _: judge.read_grade(text))
        other = next(each for each in arms if each.name == spec.against)
        if other.name == arm.name:
            return Column(judge.signature(spec, sitting.form), tuple(0.5 for _ in samples))
        others = [each.text for each in samples_of(other, suite.items)]
        both = [
            tuple(judge.ask_better(spec.rubric or "", sample, theirs, swapped=swapped) for swapped in (False, True))
            for sample, theirs in zip(samples, others, strict=True)
        ]
        return await self._told(
            sitting, suite, arm, both, lambda text, turn: judge.read_better(text, swapped=turn == 1)
        )  # fmt: skip

    async def _told(
        self,
        sitting: _Sitting,
        suite: Suite,
        arm: Arm,
        asks: Sequence[Sequence[tuple[Message, ...]]],
        read: Callable[[str, int], float],
    ) -> Column:
        """The column of what the model said to the questions about each item; what serving refused scores 0 unasked."""
        lost = refused(arm, suite.items)
        jobs = {
            (place, turn): sitting.job(suite.items[place].item_id, messages)
            for place, questions in enumerate(asks)
            for turn, messages in enumerate(questions)
            if place not in lost
        }
        told = await self._asked(sitting, list(jobs.values()))
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
            log.warning("the model failed on items", metric=sitting.spec.name, arm=arm.name, items=len(failures))
        return Column(judge.signature(sitting.spec, sitting.form), tuple(scores), failures=failures)

    async def _asked(self, sitting: _Sitting, jobs: Sequence[Job]) -> dict[str, Answer]:
        assert sitting.spec.endpoint is not None
        outside = {sitting.spec.name: Outside(sitting.generator(), sitting.spec.endpoint.concurrency)}
        return await self._generation.answer(sitting.command, jobs, outside, strict=False)


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
