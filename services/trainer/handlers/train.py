"""From the command to the end of the run: attempts, pauses, crashes, and the facts that close it."""

import asyncio
import time
from dataclasses import dataclass, replace
from pathlib import Path

from libs.contracts.commands import TrainModel
from libs.contracts.envelope import Envelope
from libs.contracts.errors import Busy, PawlError, Permanent, StaleEpoch, Transient
from libs.contracts.events import RunCompleted
from libs.contracts.routes import RunWish
from libs.contracts.task.recipe import DistilSequenceRecipe
from libs.eventing.cloudevents import decode
from libs.eventing.deadletters import Letter
from libs.telemetry import counter, get_logger
from services.trainer.clients.launcher import Launcher
from services.trainer.clients.nursery import Nursery
from services.trainer.clients.teacher import Teacher
from services.trainer.clients.workspace import Workspace
from services.trainer.domain.protocol import Failed, Finished, Ready, Stopped
from services.trainer.domain.runs import MAX_CRASHES, Attempt, actual_of, crash_pause, manifest
from services.trainer.handlers.attempt import BEAT_SECONDS, Outcome, Session, job_of
from services.trainer.handlers.wishes import Wishes
from services.trainer.store import RunStore

log = get_logger(__name__)

_HOLDER_GONE_SECONDS = 5 * BEAT_SECONDS
_UPLOAD_PATIENCE = 60.0
_WANTED = {"qlora": ("bitsandbytes",)}


@dataclass(frozen=True, slots=True)
class Terms:
    """What this machine adds to every run."""

    device: str
    precision: str
    threads: int
    drain_seconds: float
    memory_limit_bytes: int
    lock_digest: str
    code_digest: str


@dataclass(slots=True)
class _Crashes:
    """Deaths of the training process in a row without a new checkpoint between them."""

    count: int = 0
    saved_step: int = 0
    split: int = 1
    """Parts that a micro-batch is cut into, after the kernel ended an attempt for its memory."""

    def add(self, outcome: Outcome) -> int:
        if outcome.saved_step > self.saved_step:
            self.saved_step, self.count = outcome.saved_step, 0
        self.count += 1
        return self.count


class TrainHandler:
    """Handler of TrainModel; a redelivered command goes on where the run stands, or does nothing when it has ended."""

    def __init__(
        self,
        *,
        store: RunStore,
        workspace: Workspace,
        nursery: Nursery,
        teacher: Teacher,
        wishes: Wishes,
        terms: Terms,
        launcher: Launcher | None = None,
    ) -> None:
        self._launcher: Launcher = launcher or nursery
        self._teacher = teacher
        self._store = store
        self._workspace = workspace
        self._nursery = nursery
        self._wishes = wishes
        self._terms = terms

    async def __call__(self, cause: Envelope[TrainModel]) -> None:
        """Train. Raises Transient when it is worth trying again later; all else becomes a fact."""
        run_id = cause.data.run_id
        await self._wishes.read()
        crashes = _Crashes()
        try:
            while not await self._attempt(cause, crashes):
                pass
            await self._workspace.clear(cause.data)
            await self._nursery.prepare()
        except StaleEpoch as error:
            log.warning("overtaken by a newer attempt", run_id=run_id, reason=str(error))
            await self._outlive(run_id)

    async def on_dead(self, letter: Letter, reason: str) -> None:
        """The command was given up: say so of its run."""
        try:
            cause = decode(TrainModel, letter.subject, letter.data, letter.headers)
        except PawlError as error:
            log.error("dead command names no run", reason=str(error))
            return
        attempt = await self._store.begin(cause)
        if attempt is not None:
            await self._store.failed(attempt, cause, reason)

    async def _attempt(self, cause: Envelope[TrainModel], crashes: _Crashes) -> bool:
        """One attempt; True when the run has ended."""
        attempt = await self._store.begin(cause)
        if attempt is None:
            log.info("run has ended, nothing to do", run_id=cause.data.run_id)
            return True
        if self._wishes.of(attempt.run_id) is RunWish.CANCEL:
            return await self._cancelled(attempt, cause)
        if self._wishes.of(attempt.run_id) is RunWish.PAUSE:
            return await self._wait_out_pause(attempt)
        try:
            outcome = await self._train(attempt, cause, crashes.split)
        except StaleEpoch:
            raise
        except Permanent as error:
            return await self._failed(attempt, cause, f"{error.reason}: {error.message}")
        counter("trainer_attempts", "attempts ended, by how", ["outcome"]).labels(_named(outcome)).inc()
        if outcome.wish is RunWish.CANCEL:
            return await self._cancelled(attempt, cause)
        if outcome.wish is RunWish.PAUSE:
            return await self._wait_out_pause(attempt)
        match outcome.word:
            case Finished() as finished if outcome.ready is not None:
                return await self._completed(attempt, cause, finished, outcome.ready)
            case Failed(again=False) as failed:
                return await self._failed(attempt, cause, f"{failed.reason}: {failed.message}")
            case Failed(reason="OUT_OF_MEMORY") as failed:
                return await self._squeezed(attempt, cause, crashes, max(outcome.split, crashes.split), failed)
            case Failed() as failed:
                return await self._crashed(attempt, cause, crashes.add(outcome), f"{failed.reason}: {failed.message}")
            case _:
                return await self._crashed(
                    attempt, cause, crashes.add(outcome), "STOPPED: it ended without being asked"
                )

    async def _squeezed(
        self, attempt: Attempt, cause: Envelope[TrainModel], crashes: _Crashes, split: int, failed: Failed
    ) -> bool:
        """The kernel ended the process for its memory: the next attempt takes the same batches in smaller pieces."""
        if split >= cause.data.spec.recipe.batch_size:
            return await self._failed(attempt, cause, f"{failed.reason}: {failed.message}")
        crashes.split = split * 2
        log.warning("out of memory, next attempt in smaller pieces", run_id=attempt.run_id, parts=crashes.split)
        return False

    async def _train(self, attempt: Attempt, cause: Envelope[TrainModel], split: int) -> Outcome:
        command = cause.data
        inputs = await self._workspace.fetch(command)
        if isinstance(command.spec.recipe, DistilSequenceRecipe):
            inputs = replace(inputs, dataset=await self._taught(attempt, command, inputs.dataset))
        committed = await self._store.checkpoints(command.run_id)
        resume_from = await self._workspace.newest_checkpoint(command, committed)
        terms = self._terms
        job = job_of(
            command, inputs, self._workspace.directory(command.run_id), resume_from,
            device=terms.device, precision=terms.precision, threads=terms.threads, split=split,
            memory_limit_bytes=terms.memory_limit_bytes,
        )  # fmt: skip
        wanted = _WANTED.get(command.spec.recipe.method, ())
        session = Session(
            attempt, cause, await self._launcher.take(wanted, command.spec.recipe.processes), store=self._store,
            workspace=self._workspace,
            wishes=self._wishes, drain_seconds=terms.drain_seconds,
        )  # fmt: skip
        return await session.run(job)

    async def _taught(self, attempt: Attempt, command: TrainModel, dataset: Path) -> Path:
        """The dataset with the teacher's answers: asked for once, then the same for every attempt and reproduction."""
        run = await self._store.get(command.run_id)
        digest = str(run.details.get("taught_digest", "")) if run else ""
        if digest:
            return await self._workspace.tree(command.tenant, digest, "dataset of the teacher's answers")
        made = await self._teacher.teach(command, dataset, self._workspace.directory(command.run_id) / "taught")
        about: dict[str, object] = {"dataset_digest": command.dataset_digest, "asked": made.asked}
        digest = await self._workspace.upload(command.tenant, made.dataset, kind="taught", about=about)
        await self._store.detailed(attempt, {"taught_digest": digest, "teacher_unusable": made.unusable})
        return made.dataset

    async def _completed(self, attempt: Attempt, cause: Envelope[TrainModel], finished: Finished, ready: Ready) -> bool:
        command = cause.data
        run = await self._store.get(command.run_id)
        described = manifest(
            taught_digest=str(run.details.get("taught_digest", "")) if run else "",
            base_digest=command.base_digest,
            dataset_digest=command.dataset_digest,
            continue_from=command.continue_from,
            recipe=command.spec.recipe.model_dump(mode="json"),
            plan_digest=ready.plan_digest,
            lock_digest=self._terms.lock_digest,
            code_digest=self._terms.code_digest,
            environment=ready.environment,
            rows_digest=ready.rows_digest,
            task=command.task,
            system=command.spec.system,
            split=finished.split,
        )
        adapter, run_manifest = await self._upload(attempt, Path(finished.path), described)
        fact = RunCompleted(
            tenant=attempt.tenant,
            task=attempt.task,
            run_id=attempt.run_id,
            epoch=attempt.epoch,
            adapter_digest=adapter,
            run_manifest_digest=run_manifest,
            base_digest=command.base_digest,
            dataset_digest=command.dataset_digest,
            steps=finished.steps,
            seconds=finished.seconds,
            final_loss=finished.final_loss,
            loss_curve=finished.loss_curve,
            killed_at_step=attempt.killed_at_step,
            resumed_at_step=ready.start_step,
            whole=command.spec.recipe.method == "full",
        )
        await self._store.completed(attempt, cause, fact, actual_of(finished, ready))
        log.info(
            "run completed", run_id=attempt.run_id, steps=finished.steps, adapter=adapter, seconds=finished.seconds
        )
        return True

    async def _upload(self, attempt: Attempt, adapter: Path, described: dict[str, object]) -> tuple[str, str]:
        given_up = time.monotonic() + _UPLOAD_PATIENCE
        while True:
            try:
                digest = await self._workspace.upload_adapter(attempt, adapter)
                return digest, await self._workspace.upload_manifest(attempt, described)
            except Transient as error:
                # Past this the command is given back; the last checkpoint makes the next attempt a short one.
                if time.monotonic() > given_up:
                    raise
                log.warning("adapter not uploaded yet", run_id=attempt.run_id, reason=str(error))
                await self._store.beat(attempt, 0)
                await asyncio.sleep(BEAT_SECONDS)

    async def _crashed(self, attempt: Attempt, cause: Envelope[TrainModel], count: int, reason: str) -> bool:
        if count >= MAX_CRASHES:
            return await self._failed(attempt, cause, f"{reason} ({count} times without progress)")
        log.warning(
            "attempt crashed, going on from the last checkpoint", run_id=attempt.run_id, reason=reason, times=count
        )
        await asyncio.sleep(crash_pause(count))
        return False

    async def _failed(self, attempt: Attempt, cause: Envelope[TrainModel], reason: str) -> bool:
        await self._store.failed(attempt, cause, reason)
        log.error("run failed", run_id=attempt.run_id, reason=reason)
        return True

    async def _cancelled(self, attempt: Attempt, cause: Envelope[TrainModel]) -> bool:
        await self._store.failed(attempt, cause, self._wishes.reason(attempt.run_id), cancelled=True)
        log.info("run cancelled", run_id=attempt.run_id)
        return True

    async def _wait_out_pause(self, attempt: Attempt) -> bool:
        await self._store.paused(attempt)
        log.info("run paused", run_id=attempt.run_id)
        await self._wishes.other_than_pause(attempt.run_id)
        return False

    async def _outlive(self, run_id: str) -> None:
        """Neither acknowledge nor return a command that a newer attempt is working on; see to it that someone is."""
        while True:
            run = await self._store.get(run_id)
            if run is None or run.status.ended:
                return
            if time.time() - run.heartbeat_at > _HOLDER_GONE_SECONDS:
                raise Busy(f"the newer attempt of run {run_id} is gone too", reason="HOLDER_GONE")
            await asyncio.sleep(BEAT_SECONDS)


def _named(outcome: Outcome) -> str:
    if outcome.wish is not None:
        return outcome.wish.value
    return "stopped" if isinstance(outcome.word, Stopped) else (outcome.word.kind if outcome.word else "none")
