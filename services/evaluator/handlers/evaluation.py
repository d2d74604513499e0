"""Runs an evaluation: suite, answers of every arm through serving, report; continues where a killed one was."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from random import random
from typing import Protocol

from libs.artifacts import ObjectStore
from libs.contracts.commands import Contender, EvaluateModel
from libs.contracts.envelope import Envelope
from libs.contracts.errors import DataLoss, FailedPrecondition, InvalidInput, NotFound, Permanent, Transient
from libs.contracts.ids import derived_id
from libs.contracts.inference import Message, Provenance
from libs.contracts.subjects import version_name
from libs.eventing.cloudevents import decode
from libs.eventing.deadletters import Letter
from libs.eventing.subscriptions import Subscription
from libs.telemetry import counter, get_logger, histogram, span
from services.evaluator.domain.report import Answer, Arm, Subject, build_report
from services.evaluator.domain.scoring import validity
from services.evaluator.domain.suite import ITEMS_FILE, Item, parse_suite
from services.evaluator.store.reports import CONSUMER, RUNNING, Reports

log = get_logger(__name__)

_LONGEST_PAUSE = 5.0


class Generator(Protocol):
    """What gives an answer."""

    async def generate(
        self, model: str, messages: Sequence[Message], *, item_id: str, request_id: str, max_tokens: int
    ) -> tuple[Answer, str]:
        """One greedy answer and the public name of the version that gave it."""


class Evaluation:
    """Handles `EvaluateModel`.

    Args:
        reports: Where reports and answers are kept.
        objects: Holds suites and reports.
        gateway: Gives the answers.
        suites: Local directory of fetched suites.
        patience: Seconds an item is tried again while serving is away; then the job is handed back.
        routing: Seconds a version is waited for that the gateway does not know yet.
    """

    def __init__(
        self,
        reports: Reports,
        objects: ObjectStore,
        gateway: Generator,
        suites: Path,
        *,
        patience: float,
        routing: float,
    ) -> None:
        self._reports = reports
        self._objects = objects
        self._gateway = gateway
        self._suites = suites
        self._patience = patience
        self._routing = routing

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
            await self._evaluate(envelope)
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

    async def _evaluate(self, envelope: Envelope[EvaluateModel]) -> None:
        command = envelope.data
        output = command.spec.output
        validity(output)  # a wrong schema is told before anything is generated
        contenders = (command.candidate, *command.baselines)
        _check(contenders)
        items = await self._suite(command.tenant, command.suite_digest)
        answered = await self._reports.answered(command.report_id)
        arms = []
        for contender in contenders:
            mine = answered.setdefault(contender.version, {})
            with span("generate arm", arm=contender.name, version=contender.version, items=len(items)):
                await self._generate(command, contender, items, mine)
            arms.append(Arm(contender.name, contender.version, contender.digest, mine))
        subject = Subject(command.report_id, command.tenant, command.task, command.suite_digest, command.dataset_digest)
        report = build_report(subject, items, arms[0], arms[1:], command.spec.evaluation.gates, output)
        digest = await self._objects.for_tenant(command.tenant).put_bytes(report.document, kind="report")
        await self._reports.complete(envelope, report, digest)
        log.info("report completed", report_id=command.report_id, verdict=report.verdict.value, items=len(items))

    async def _suite(self, tenant: str, digest: str) -> tuple[Item, ...]:
        destination = self._suites / digest.removeprefix("sha256:")
        tree = await self._objects.for_tenant(tenant).fetch_tree(digest, destination)
        file = tree / ITEMS_FILE
        if not file.is_file():
            raise InvalidInput(f"suite {digest} holds no {ITEMS_FILE}", field="suite_digest")
        return parse_suite(await asyncio.to_thread(file.read_text, encoding="utf-8"))

    async def _generate(
        self, command: EvaluateModel, contender: Contender, items: Sequence[Item], answered: dict[str, Answer]
    ) -> None:
        missing = [item for item in items if item.item_id not in answered]
        if not missing:
            return
        at_once = min(command.spec.evaluation.concurrency, len(missing))
        # Bounded, so that a kill costs at most what is in flight, in the queue and in the transaction.
        done: asyncio.Queue[Answer] = asyncio.Queue(at_once)
        waiting = iter(missing)

        async def work() -> None:
            # Workers share one iterator: no item is taken twice and none waits for a slow neighbour.
            for item in waiting:
                await done.put(await self._answer(command, contender, item))

        async def keep() -> None:
            left = len(missing)
            while left:
                batch = [await done.get()]
                while len(batch) < at_once and not done.empty():
                    batch.append(done.get_nowait())
                await self._reports.save(command.report_id, contender.version, batch)
                answered.update((answer.item_id, answer) for answer in batch)
                left -= len(batch)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(at_once):
                    group.create_task(work())
                group.create_task(keep())
        except ExceptionGroup as failures:
            raise _gravest(failures) from failures
        if all(answer.error for answer in answered.values()):
            refusal = next(iter(answered.values())).error
            raise FailedPrecondition(f"serving refused every item to {contender.name}: {refusal}", reason="ALL_REFUSED")

    async def _answer(self, command: EvaluateModel, contender: Contender, item: Item) -> Answer:
        started = time.monotonic()
        tries = 0
        while True:
            try:
                answer, served = await self._gateway.generate(
                    version_name(command.task, contender.version),
                    item.messages,
                    item_id=item.item_id,
                    request_id=derived_id(command.report_id, f"{contender.version}/{item.item_id}"),
                    max_tokens=command.spec.output.max_tokens,
                )
            except InvalidInput as error:
                # One item that cannot be served (too long, say) is wrong; it does not cost the report.
                counter("evaluation_items_refused", "items that serving refused").inc()
                return Answer(item.item_id, "", Provenance(base_digest=""), f"{error.reason}: {error}")
            except (NotFound, FailedPrecondition) as error:
                # A route takes a moment to reach every gateway.
                if time.monotonic() - started > self._routing:
                    raise
                reason = str(error)
            except Transient as error:
                if time.monotonic() - started > self._patience:
                    raise
                reason = str(error)
            else:
                _check_served(command.task, contender, answer, served)
                return answer
            tries += 1
            if tries == 1:
                log.warning("item tried again", report_id=command.report_id, item_id=item.item_id, reason=reason)
            await asyncio.sleep(min(0.1 * 2.0 ** min(tries, 10), _LONGEST_PAUSE) * (0.5 + random() / 2))


def _check(contenders: Sequence[Contender]) -> None:
    names = [contender.name for contender in contenders]
    if len(set(names)) != len(names):
        raise InvalidInput(f"two arms share a name: {', '.join(names)}", field="baselines")
    digests: dict[int, str] = {}
    for contender in contenders:
        if digests.setdefault(contender.version, contender.digest) != contender.digest:
            raise InvalidInput(f"version {contender.version} is given two digests", field="baselines")


def _check_served(task: str, contender: Contender, answer: Answer, served: str) -> None:
    """What is evaluated must be what was asked for; anything else would be a report about another model."""
    asked = version_name(task, contender.version)
    if served != asked:
        raise DataLoss(f"asked for {asked}, served by {served!r}", reason="SERVED_MISMATCH", field="model_version")
    made = answer.provenance.adapter_digest or answer.provenance.base_digest
    if made != contender.digest:
        raise DataLoss(
            f"{asked} must be {contender.digest} but was answered by {made!r}", reason="SERVED_MISMATCH", field="digest"
        )


def _gravest(failures: ExceptionGroup[Exception]) -> Exception:
    # Of several workers some may be cut off while another is refused for good: what cannot heal decides.
    return next((each for each in failures.exceptions if isinstance(each, Permanent)), failures.exceptions[0])
