"""Generates what is not there yet: one pool of workers over all arms, so that no arm's tail leaves serving idle."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import random
from typing import Protocol

from libs.contracts.commands import EvaluateModel
from libs.contracts.errors import DataLoss, FailedPrecondition, InvalidInput, NotFound, Permanent, Transient
from libs.contracts.ids import derived_id
from libs.contracts.inference import Message, Provenance
from libs.telemetry import counter, get_logger, span
from services.evaluator.domain.answers import Answer
from services.evaluator.domain.presence import Presence
from services.evaluator.store.answers import Answers

log = get_logger(__name__)

_LONGEST_PAUSE = 5.0
_STEP_BACK_SECONDS = 0.25
TOO_LONG = "PROMPT_TOO_LONG"


class Generator(Protocol):
    """What gives an answer."""

    async def generate(
        self, model: str, messages: Sequence[Message], *, item_id: str, request_id: str, max_tokens: int, tools: str
    ) -> tuple[Answer, str]:
        """One greedy answer and the public name of the version that gave it; `tools` as in `Item`."""


@dataclass(frozen=True, slots=True)
class Job:
    """One answer wanted.

    Args:
        key: Under which it is kept.
        arm: Which contender wants it first; in words, for logs and errors.
        item_id: Item it is an answer to.
        model: Whom to ask, as the generator calls it.
        digest: Version digest that must answer; empty for an outside model.
        variants: The messages, then shorter ones for a prompt that is too long.
        outside: Name of the outside model, empty for serving.
        tools: JSON of the tools offered, empty for none.
    """

    key: str
    arm: str
    item_id: str
    model: str
    digest: str
    variants: tuple[tuple[Message, ...], ...]
    outside: str = ""
    tools: str = ""


@dataclass(frozen=True, slots=True)
class Outside:
    """A model beside serving, and how many questions at once it takes."""

    generator: Generator
    concurrency: int


class Generation:
    """Answers jobs, keeping each answer as it comes.

    Args:
        answers: Where answers are kept.
        gateway: Serving.
        patience: Seconds a job is tried again while whoever answers is away; then the evaluation is handed back.
        routing: Seconds a version is waited for that the gateway does not know yet.
        presence: Whether users are there, before whom an evaluation steps back.
    """

    def __init__(
        self,
        answers: Answers,
        gateway: Generator,
        *,
        patience: float,
        routing: float,
        presence: Presence | None = None,
    ) -> None:
        self._answers = answers
        self._gateway = gateway
        self._patience = patience
        self._routing = routing
        self._presence = presence or Presence()

    async def answer(
        self,
        command: EvaluateModel,
        jobs: Sequence[Job],
        outside: Mapping[str, Outside] | None = None,
        *,
        strict: bool = True,
    ) -> dict[str, Answer]:
        """Answers by key. What an earlier report or attempt generated is not generated again.

        `strict`: an arm that is refused every item ends the evaluation; else each refusal is that item's alone.
        """
        wanted = {job.key: job for job in jobs}
        found = await self._answers.known(command.tenant, list(wanted), command.report_id)
        missing = [job for key, job in wanted.items() if key not in found]
        pools: dict[str, list[Job]] = {}
        for job in missing:
            pools.setdefault(job.outside, []).append(job)
        log.info("generating", report_id=command.report_id, wanted=len(wanted), kept=len(found), missing=len(missing))
        try:
            async with asyncio.TaskGroup() as group:
                for name, pool in pools.items():
                    other = (
                        (outside or {})[name] if name else Outside(self._gateway, command.spec.evaluation.concurrency)
                    )
                    group.create_task(self._run(command, pool, other, found))
        except ExceptionGroup as failures:
            raise _gravest(failures) from failures
        if strict:
            _check_refusals(wanted.values(), found)
        return found

    async def _run(self, command: EvaluateModel, jobs: Sequence[Job], other: Outside, found: dict[str, Answer]) -> None:
        at_once = min(other.concurrency, len(jobs))
        # Bounded, so that a kill costs at most what is in flight, in the queue and in the transaction.
        done: asyncio.Queue[tuple[str, Answer]] = asyncio.Queue(at_once)
        waiting: Iterator[Job] = iter(jobs)
        exhausted = asyncio.Event()

        async def work(number: int) -> None:
            while True:
                while not jobs[0].outside and number >= self._presence.allowed(at_once, time.monotonic()):
                    if exhausted.is_set():
                        return
                    await asyncio.sleep(_STEP_BACK_SECONDS)
                # Workers share one iterator: no job is taken twice and none waits for a slow neighbour.
                job = next(waiting, None)
                if job is None:
                    exhausted.set()
                    return
                await done.put((job.key, await self._answer(command, job, other.generator)))

        async def keep() -> None:
            left = len(jobs)
            while left:
                batch = dict([await done.get()])
                while len(batch) < at_once and not done.empty():
                    key, answer = done.get_nowait()
                    batch[key] = answer
                await self._answers.save(command.tenant, command.task, batch)
                found.update(batch)
                left -= len(batch)

        with span("generate", items=len(jobs), outside=jobs[0].outside):
            async with asyncio.TaskGroup() as group:
                for number in range(at_once):
                    group.create_task(work(number))
                group.create_task(keep())

    async def _answer(self, command: EvaluateModel, job: Job, generator: Generator) -> Answer:
        variants = iter(job.variants)
        messages = next(variants)
        while True:
            try:
                answer = await self._patiently(command, job, messages, generator)
            except InvalidInput as error:
                shorter = next(variants, None) if error.reason == TOO_LONG else None
                if shorter is not None:
                    messages = shorter
                    continue
                # One item that cannot be served (too long, say) is wrong; it does not cost the report.
                counter("evaluation_items_refused", "items that serving refused").inc()
                answer = Answer(job.item_id, "", Provenance(base_digest=""), f"{error.reason}: {error}")
            return replace(answer, made_in=command.report_id)

    async def _patiently(
        self, command: EvaluateModel, job: Job, messages: Sequence[Message], generator: Generator
    ) -> Answer:
        started = time.monotonic()
        tries = 0
        while True:
            try:
                answer, served = await generator.generate(
                    job.model,
                    messages,
                    item_id=job.item_id,
                    request_id=derived_id(command.report_id, job.key),
                    max_tokens=command.spec.output.max_tokens,
                    tools=job.tools,
                )
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
                _check_served(job, answer, served)
                return answer
            tries += 1
            if tries == 1:
                log.warning("item tried again", report_id=command.report_id, item_id=job.item_id, reason=reason)
            await asyncio.sleep(min(0.1 * 2.0 ** min(tries, 10), _LONGEST_PAUSE) * (0.5 + random() / 2))


def _check_served(job: Job, answer: Answer, served: str) -> None:
    """What is evaluated must be what was asked for; anything else would be a report about another model."""
    if not job.digest:
        return
    if served != job.model:
        raise DataLoss(f"asked for {job.model}, served by {served!r}", reason="SERVED_MISMATCH", field="model_version")
    made = answer.provenance.adapter_digest or answer.provenance.base_digest
    if made != job.digest:
        raise DataLoss(
            f"{job.model} must be {job.digest} but was answered by {made!r}", reason="SERVED_MISMATCH", field="digest"
        )


def _check_refusals(jobs: Iterable[Job], found: Mapping[str, Answer]) -> None:
    by_arm: dict[str, list[str | None]] = {}
    for job in jobs:
        by_arm.setdefault(job.arm, []).append(found[job.key].error)
    for arm, errors in by_arm.items():
        if all(errors):
            raise FailedPrecondition(f"serving refused every item to {arm}: {errors[0]}", reason="ALL_REFUSED")


def _gravest(failures: ExceptionGroup[Exception]) -> Exception:
    # Of several workers some may be cut off while another is refused for good: what cannot heal decides.
    flat = [_gravest(each) if isinstance(each, ExceptionGroup) else each for each in failures.exceptions]
    return next((each for each in flat if isinstance(each, Permanent)), flat[0])
