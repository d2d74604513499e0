"""One attempt at a run: a training process, its words turned into commits, and the ways it can be made to end."""

import asyncio
import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.contracts.commands import TrainModel
from libs.contracts.envelope import Envelope
from libs.contracts.errors import Transient
from libs.contracts.routes import RunWish
from libs.telemetry import counter, gauge, get_logger
from services.trainer.clients.launcher import Process
from services.trainer.clients.workspace import Inputs, Workspace
from services.trainer.domain.protocol import Failed, Finished, Job, Progress, Ready, Sampled, Saved, Squeezed, Stopped
from services.trainer.domain.runs import Attempt, describe_exit
from services.trainer.handlers.uploads import CheckpointUploads
from services.trainer.handlers.wishes import Wishes
from services.trainer.store import RunStore

log = get_logger(__name__)

BEAT_SECONDS = 2.0
_REPORT_SECONDS = 1.0
_PAUSE_SECONDS = 60.0

LastWord = Finished | Stopped | Failed


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: with the child's last word, or by a wish. `ready` is what the child said of its inputs."""

    word: LastWord | None = None
    wish: RunWish | None = None
    ready: Ready | None = None
    saved_step: int = 0
    split: int = 1


class Session:
    """Runs one attempt.

    Args:
        attempt: Its right to commit.
        cause: The command.
        trainee: A training process of its own.
        store: For commits under the epoch.
        workspace: For uploads.
        wishes: What the registry wants of runs.
        drain_seconds: What a checkpoint and its upload may take when the process must go.
    """

    def __init__(
        self,
        attempt: Attempt,
        cause: Envelope[TrainModel],
        trainee: Process,
        *,
        store: RunStore,
        workspace: Workspace,
        wishes: Wishes,
        drain_seconds: float,
    ) -> None:
        self._attempt = attempt
        self._cause = cause
        self._trainee = trainee
        self._store = store
        self._wishes = wishes
        self._drain_seconds = drain_seconds
        self._uploads = CheckpointUploads(attempt, cause, workspace, store)
        self._ready: Ready | None = None
        self._saved_step = 0
        self._reported_at = 0.0
        self._split = 1

    async def run(self, job: Job) -> Outcome:
        """Train until the child's last word, a wish, or the loss of the epoch (raises StaleEpoch).

        Cancelled, it has the child write a checkpoint, commits it as far as the drain allows and ends the child.
        """
        listening = asyncio.create_task(self._listen(job), name="trainee-words")
        beating = asyncio.create_task(self._beat(), name="attempt-beat")
        uploading = asyncio.create_task(self._uploads.run(), name="checkpoint-uploads")
        wishing = asyncio.create_task(self._wishes.other_than_run(self._attempt.run_id), name="run-wish")
        everything: tuple[asyncio.Task[Any], ...] = (listening, beating, uploading, wishing)
        try:
            await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
            for task in (beating, uploading):
                if task.done():
                    task.result()
            if listening.done():
                return self._outcome(listening.result())
            wish = wishing.result()
            if wish is RunWish.PAUSE:
                await self._bring_home(listening, _PAUSE_SECONDS)
            return Outcome(wish=wish, ready=self._ready, saved_step=self._saved_step)
        except asyncio.CancelledError:
            await _whatever_happens(self._bring_home(listening, self._drain_seconds))
            raise
        finally:
            await _whatever_happens(self._end(everything))

    def _outcome(self, word: LastWord) -> Outcome:
        return Outcome(word=word, ready=self._ready, saved_step=self._saved_step, split=self._split)

    async def _listen(self, job: Job) -> LastWord:
        try:
            await self._trainee.give(job)
        except Transient as error:
            return await self._gone(str(error))
        async for word in self._trainee.words():
            match word:
                case Ready():
                    await self._on_ready(word)
                case Progress():
                    await self._on_progress(word)
                case Saved():
                    self._saved_step = word.step
                    self._uploads.offer(word)
                case Squeezed():
                    self._squeezed(word)
                case Sampled():
                    await self._on_sampled(word)
                case Finished() | Stopped() | Failed():
                    return word
        return await self._gone(self._trainee.last_words())

    async def _gone(self, last_words: str) -> Failed:
        status = await self._trainee.exit_status()
        reason, _, message = describe_exit(status, self._trainee.ran_out_of_memory(), last_words).partition(": ")
        return Failed(reason=reason, message=message, again=True)

    async def _on_ready(self, ready: Ready) -> None:
        self._ready = ready
        await self._store.started(self._attempt, self._cause, ready.total_steps, ready.start_step)
        log.info(
            "training", run_id=self._attempt.run_id, epoch=self._attempt.epoch, rows=ready.rows, dropped=ready.too_long,
            steps=ready.total_steps, resumed_at=ready.start_step, trained_share=ready.trained_share, xray=ready.xray,
            **{f"env_{name}": value for name, value in ready.environment.items()},
        )  # fmt: skip

    def _squeezed(self, word: Squeezed) -> None:
        self._split = word.split
        counter("trainer_squeezed", "times a step was cut smaller for memory").inc()
        log.warning(
            "out of memory, going on in smaller pieces with the same effective batch", run_id=self._attempt.run_id,
            step=word.step, parts=word.split, reason=word.reason,
        )  # fmt: skip

    async def _on_sampled(self, word: Sampled) -> None:
        try:
            await self._store.sampled(self._attempt, word)
        except Transient as error:
            log.warning("samples not recorded", step=word.step, reason=str(error))

    async def _on_progress(self, progress: Progress) -> None:
        start = self._ready.start_step if self._ready else 0
        edge = progress.step in (start + 1, progress.total_steps)
        if not edge and time.monotonic() - self._reported_at < _REPORT_SECONDS:
            return
        self._reported_at = time.monotonic()
        gauge("trainer_tokens_per_second", "tokens trained per second, last report").set(progress.tokens_per_second)
        try:
            await self._store.progressed(self._attempt, self._cause, progress)
        except Transient as error:
            # The next report says more than this one would have.
            log.warning("progress not recorded", step=progress.step, reason=str(error))

    async def _beat(self) -> None:
        while True:
            try:
                await self._store.beat(self._attempt, self._trainee.pid)
            except Transient as error:
                log.warning("heartbeat not recorded", reason=str(error))
            await asyncio.sleep(BEAT_SECONDS)

    async def _bring_home(self, listening: "asyncio.Task[LastWord]", seconds: float) -> None:
        deadline = time.monotonic() + seconds
        await self._trainee.ask_to_stop()
        done, _ = await asyncio.wait({listening}, timeout=seconds)
        # An upload of what is on this disk already is given what is left, and not waited for beyond.
        settled = await self._uploads.settle(max(0.0, deadline - time.monotonic()))
        log.info(
            "training stopped", run_id=self._attempt.run_id, step=self._saved_step, said=bool(done), committed=settled
        )

    async def _end(self, tasks: "tuple[asyncio.Task[Any], ...]") -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._trainee.end()


def job_of(command: TrainModel, inputs: Inputs, workspace: Path, resume_from: Path | None, **machine: Any) -> Job:
    """The child's job for a command."""
    return Job(
        run_id=command.run_id,
        base=str(inputs.base),
        base_digest=command.base_digest,
        dataset=str(inputs.dataset),
        dataset_digest=command.dataset_digest,
        continue_from=str(inputs.continue_from) if inputs.continue_from else None,
        workspace=str(workspace),
        resume_from=str(resume_from) if resume_from else None,
        recipe=command.spec.recipe,
        task=command.task,
        system=command.spec.system,
        teacher=str(inputs.teacher) if inputs.teacher else None,
        replay=str(inputs.replay) if inputs.replay else None,
        cache=str(inputs.cache),
        **machine,
    )


async def _whatever_happens(work: Any) -> None:
    """Finish `work` although this task is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
            cancelled = True
        except Exception:  # noqa: BLE001 - told by `task.result()` below
            break
    if not cancelled:
        task.result()
        return
    with contextlib.suppress(Transient):
        task.result()
    raise asyncio.CancelledError
