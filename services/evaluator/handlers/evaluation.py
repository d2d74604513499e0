"""Runs an evaluation: suites, answers of every arm through serving, scores, report; goes on where a killed one was."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from libs.artifacts import ObjectStore
from libs.contracts.commands import EvaluateModel
from libs.contracts.envelope import Envelope
from libs.contracts.errors import InvalidInput, Permanent
from libs.contracts.inference import Message
from libs.contracts.task import EndpointSpec, EvaluationSpec, MetricSpec, PriceSpec
from libs.eventing.cloudevents import decode
from libs.eventing.deadletters import Letter
from libs.eventing.subscriptions import Subscription
from libs.telemetry import get_logger, histogram
from services.evaluator.clients.outside import OutsideModel
from services.evaluator.compute.plugins import Plugins
from services.evaluator.domain.admission import Standing
from services.evaluator.domain.answers import Answer, Arm
from services.evaluator.domain.metrics.core import Column, Metric
from services.evaluator.domain.metrics.registry import REMOTE, of_suite
from services.evaluator.domain.noise import Noise, measure_noise
from services.evaluator.domain.plan import planned
from services.evaluator.domain.report import Report, Setting, Subject, build_report
from services.evaluator.domain.scores import mix_of
from services.evaluator.domain.sheet import Sheet, Suite, make_sheet
from services.evaluator.handlers.contest import (
    DRESSED,
    Entrant,
    Library,
    entrants,
    jobs_of,
    read_examples,
    read_passages,
)
from services.evaluator.handlers.generation import Generation, Job, Outside
from services.evaluator.handlers.judging import Admission, Judging
from services.evaluator.handlers.parity import ParityGate
from services.evaluator.handlers.suites import Shelf
from services.evaluator.store.reports import CONSUMER, RUNNING, Reports

log = get_logger(__name__)

Open = Callable[[EndpointSpec], OutsideModel]
Mix = Callable[[str, str], Awaitable[dict[str, float]]]


class Evaluation:
    """Handles `EvaluateModel`.

    Args:
        reports: Where reports are kept.
        objects: Holds suites, datasets, documents and reports.
        generation: Gives and keeps the answers.
        shelf: Fetched suites, datasets and documents.
        outside: Opens a model beside serving.
        prices: The operator's, per arm; the task file's come first.
        parity: Whether the candidate that is served is the one that was trained.
        mix: Share of production's requests per category, for a task that declares none.
        admission: How a judge stands with experts.
    """

    def __init__(
        self,
        reports: Reports,
        objects: ObjectStore,
        generation: Generation,
        shelf: Shelf,
        outside: Open,
        prices: Mapping[str, PriceSpec] | None = None,
        mix: Mix | None = None,
        admission: Admission | None = None,
        parity: ParityGate | None = None,
    ) -> None:
        self._reports = reports
        self._objects = objects
        self._generation = generation
        self._shelf = shelf
        self._outside = outside
        self._prices = prices or {}
        self._mix = mix
        self._admission = admission or _nobody
        self._parity = parity

    def subscription(self) -> Subscription:
        """The command's subscription."""
        return Subscription(CONSUMER, EvaluateModel, self.handle, long_running=True, on_dead=self.buried)

    async def handle(self, envelope: Envelope[EvaluateModel]) -> None:
        """Evaluate; a permanent problem becomes the fact `EvaluationFailed`, never a verdict."""
        command = envelope.data
        started = time.monotonic()
        try:
            row = await self._reports.begin(command)
            if row.state != RUNNING:
                return
            with Plugins() as plugins:
                await self._evaluate(envelope, plugins)
        except Permanent as error:
            log.error(
                "evaluation failed", report_id=command.report_id, version=command.candidate.version, reason=str(error)
            )
            await self._reports.fail(envelope, f"{error.reason}: {error}")
        histogram(
            "evaluation_seconds", "time of one evaluation", buckets=(1, 5, 15, 30, 60, 120, 300, 900, 3600)
        ).observe(time.monotonic() - started)

    async def buried(self, letter: Letter, reason: str) -> None:
        """The command ran out of deliveries: say so, for the turn waits for a word."""
        try:
            envelope = decode(EvaluateModel, letter.subject, letter.data, letter.headers)
        except InvalidInput as error:
            log.error("a dead command names no report", reason=str(error))
            return
        await self._reports.fail(envelope, reason)

    async def _evaluate(self, envelope: Envelope[EvaluateModel], plugins: Plugins) -> None:
        command = envelope.data
        spec = command.spec.evaluation
        # What is wrong with the task is told before anything is generated.
        models = {arm.name: self._outside(arm.endpoint) for arm in spec.arms if arm.endpoint is not None}
        try:
            arms = entrants(command, {name: model.name for name, model in models.items()})
            suites = await self._shelf.suites(command)
            metrics = await asyncio.to_thread(_metrics, command, suites, plugins)
            judging = await self._judging(spec)
            first = await self._parity.decide(command) if self._parity is not None else None
            power = planned(spec, {suite.name: len(suite.items) for suite in suites})
            for sentence in power:
                log.info("power", report_id=command.report_id, told=sentence)
            library = await self._library(command, arms)
            jobs = await asyncio.to_thread(_jobs, command, arms, suites, library)
            outside = {
                arm.name: Outside(models[arm.name], arm.endpoint.concurrency)
                for arm in spec.arms
                if arm.endpoint is not None
            }
            answers = await self._generation.answer(command, [job for each in jobs.values() for job in each], outside)
        finally:
            for model in models.values():
                await model.close()
        traffic, seen = await self._traffic(command)
        sheets: dict[str, Sheet] = {}
        for suite in suites:
            taking = [_arm(arm, suite, jobs, answers) for arm in arms if (arm.name, suite.name) in jobs]
            columns = await self._columns(command, judging, suite, taking)
            mix = mix_of(suite.items, traffic) if suite.kind == "task" else None
            sheets[suite.name] = await asyncio.to_thread(
                make_sheet, suite, taking, metrics[suite.name], command.spec.output.max_tokens,
                columns=columns, mix=mix,
            )  # fmt: skip
        own = suites[0].name
        again = {arm.name: {job.item_id: answers[job.key] for job in jobs[f"{_AGAIN}/{arm.name}", own]} for arm in arms}
        noise = await self._noise(command, judging, sheets[own], again, metrics[own])
        kinds = {arm.name: arm.kind for arm in arms}
        prices = {**self._prices, **spec.prices}
        output = command.spec.output
        setting = Setting(spec, output.max_tokens, kinds, traffic, power, noise, prices, seen, first, output)
        await self._conclude(envelope, sheets, setting)

    async def _conclude(self, envelope: Envelope[EvaluateModel], sheets: Mapping[str, Sheet], setting: Setting) -> None:
        command = envelope.data
        subject = Subject(command.report_id, command.tenant, command.task, command.suite_digest, command.dataset_digest)
        report: Report = await asyncio.to_thread(build_report, subject, sheets, setting)
        digest = await self._objects.for_tenant(command.tenant).put_bytes(report.document, kind="report")
        await self._reports.complete(envelope, report, digest)
        log.info("report completed", report_id=command.report_id, verdict=report.verdict.value)

    async def _columns(
        self, command: EvaluateModel, judging: Judging, suite: Suite, arms: Sequence[Arm]
    ) -> dict[str, dict[str, Column]]:
        """What is not scored here: by models beside serving, by lm-eval."""
        if suite.kind == "harness":
            return await self._shelf.harness_columns(command, suite, arms)
        return await judging.columns(command, suite, arms) if suite.kind in DRESSED else {}

    async def _noise(
        self,
        command: EvaluateModel,
        judging: Judging,
        sheet: Sheet,
        again: Mapping[str, Mapping[str, Answer]],
        metrics: Sequence[Metric],
    ) -> Noise | None:
        """The noise floor, judges and embeddings asked again about the answers that were given again."""
        twice = again[sheet.candidate.name]
        repeated = replace(sheet.suite, items=tuple(item for item in sheet.suite.items if item.item_id in twice))
        arms = [replace(arm, answers=again[arm.name]) for arm in sheet.arms]
        judged = await judging.columns(command, repeated, arms, f"/{_AGAIN}") if twice else {}
        return await asyncio.to_thread(measure_noise, sheet, again, metrics, judged)

    async def _traffic(self, command: EvaluateModel) -> tuple[Mapping[str, float], str]:
        """The mix of traffic and where it is known from."""
        declared = command.spec.evaluation.traffic
        if declared or self._mix is None:
            return declared, "declared by the task" if declared else ""
        seen = await self._mix(command.tenant, command.task)
        return seen, "as production's answers name it, last 7 days" if seen else ""

    async def _judging(self, spec: EvaluationSpec) -> Judging:
        def opened(metric: MetricSpec) -> OutsideModel:
            assert metric.endpoint is not None
            return self._outside(metric.endpoint)

        for metric in spec.metrics:
            if metric.kind in REMOTE:
                await opened(metric).close()  # a key that is not there is told at once; nothing is connected yet
        return Judging(self._generation, opened, self._admission)

    async def _library(self, command: EvaluateModel, arms: Sequence[Entrant]) -> Library:
        examples: list[tuple[Message, Message]] = []
        passages: list[str] = []
        if any(arm.recipe.shots for arm in arms):
            tree = await self._shelf.tree(command.tenant, command.dataset_digest)
            examples = await asyncio.to_thread(read_examples, tree)
        if any(arm.recipe.passages for arm in arms):
            tree = await self._shelf.tree(command.tenant, command.spec.evaluation.documents or "")
            passages = await asyncio.to_thread(read_passages, tree)
        return await asyncio.to_thread(Library, examples, passages)


async def _nobody(metric: MetricSpec) -> Standing:
    return Standing(f"nothing here calibrates {metric.name!r}")


_AGAIN = "again"


def _jobs(
    command: EvaluateModel, arms: Sequence[Entrant], suites: Sequence[Suite], library: Library
) -> dict[tuple[str, str], list[Job]]:
    """Jobs by arm and suite; those of the noise floor under the name `again/<arm>`."""
    spec = command.spec.evaluation
    wanted = {suite.name: suite.arms for suite in spec.suites}
    jobs: dict[tuple[str, str], list[Job]] = {}
    for suite in suites:
        for arm in arms:
            if suite.kind == "task" or arm.name in wanted[suite.name] or arm is arms[0]:
                jobs[arm.name, suite.name] = jobs_of(arm, suite.kind, suite.items, command, library)
    own = suites[0]
    picked = list(own.items)
    random.Random(f"again/{command.suite_digest}").shuffle(picked)
    again = picked[: spec.repeat_items]
    for arm in arms:
        occasion = f"{command.report_id}/{_AGAIN}"
        jobs[f"{_AGAIN}/{arm.name}", own.name] = jobs_of(arm, own.kind, again, command, library, occasion)
    return jobs


def _arm(
    entrant: Entrant, suite: Suite, jobs: Mapping[tuple[str, str], Sequence[Job]], answers: Mapping[str, Answer]
) -> Arm:
    found = {job.item_id: answers[job.key] for job in jobs[entrant.name, suite.name]}
    return Arm(
        entrant.name, entrant.version, entrant.digest, found, entrant.kind, entrant.engine, entrant.recipe.digest
    )


def _metrics(command: EvaluateModel, suites: Sequence[Suite], plugins: Plugins) -> dict[str, Sequence[Metric]]:
    """What each suite is scored by. Off the loop: a metric of a package takes a moment to start."""
    output, specs = command.spec.output, command.spec.evaluation.metrics
    return {suite.name: of_suite(suite.kind, output, specs, plugins) for suite in suites}
