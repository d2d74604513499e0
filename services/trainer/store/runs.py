"""Runs, attempts and checkpoints; every write of an attempt is refused once a newer one exists."""

import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import desc, insert, select, update

from libs.contracts.commands import TrainModel
from libs.contracts.envelope import Envelope, Event
from libs.contracts.errors import StaleEpoch
from libs.contracts.events import CheckpointSaved, RunCompleted, RunFailed, RunProgressed, RunStarted
from libs.outbox.database import Database
from services.trainer.domain.protocol import Progress, Sampled
from services.trainer.domain.runs import Attempt, Run, RunStatus
from services.trainer.store.tables import checkpoints, runs

_ENDED = tuple(status.value for status in RunStatus if status.ended)


class RunStore:
    """Unit of work of the trainer. Facts leave through the outbox of the transaction that checked the epoch.

    Args:
        database: Open database with this package's tables.
        clock: Seconds since the epoch.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def begin(self, cause: Envelope[TrainModel]) -> Attempt | None:
        """Take the next epoch of the run; None when the run has ended and nothing is left to do."""
        command, now = cause.data, self._clock()
        async with self._database.unit(cause) as unit:
            query = select(runs).where(runs.c.run_id == command.run_id).with_for_update()
            row = (await unit.session.execute(query)).mappings().first()
            if row is None:
                await unit.session.execute(insert(runs).values(**_new_row(command, now)))
                return Attempt(command.run_id, command.tenant, command.task, 1, 0)
            if row["status"] in _ENDED:
                return None
            epoch, killed = int(row["epoch"]) + 1, int(row["step"])
            await unit.session.execute(
                update(runs)
                .where(runs.c.run_id == command.run_id)
                .values(epoch=epoch, status=RunStatus.RUNNING.value, killed_at_step=killed, pid=0, heartbeat_at=now)
            )
            return Attempt(command.run_id, command.tenant, command.task, epoch, killed)

    async def beat(self, attempt: Attempt, pid: int) -> None:
        """Say that the attempt lives. Raises StaleEpoch when it may not any more."""
        await self._commit(attempt, None, {"heartbeat_at": self._clock(), "pid": pid})

    async def started(self, attempt: Attempt, cause: Envelope[TrainModel], total_steps: int, resumed_at: int) -> None:
        """The attempt trains."""
        fact = RunStarted(**_about(attempt), total_steps=total_steps, resumed_at_step=resumed_at)
        values = {"total_steps": total_steps, "resumed_at_step": resumed_at, "status": RunStatus.RUNNING.value}
        await self._commit(attempt, cause, values, fact, "run-started", f"{attempt.epoch}")

    async def progressed(self, attempt: Attempt, cause: Envelope[TrainModel], at: Progress) -> None:
        """A step report."""
        run = await self.get(attempt.run_id)
        fact = RunProgressed(**_about(attempt), **at.model_dump(exclude={"kind"}))
        values = {
            "step": at.step,
            "loss": at.loss,
            "tokens_per_second": at.tokens_per_second,
            "eta_seconds": at.eta_seconds,
            "details": {**(run.details if run else {}), "progress": at.model_dump(exclude={"kind"})},
            "heartbeat_at": self._clock(),
        }
        await self._commit(attempt, cause, values, fact, "run-progressed", f"{attempt.epoch}/{at.step}")

    async def checkpointed(self, attempt: Attempt, cause: Envelope[TrainModel], step: int, digest: str) -> None:
        """A checkpoint is in object storage; one of the same step from an older attempt is replaced."""
        fact = CheckpointSaved(**_about(attempt), step=step, digest=digest)
        row = {"epoch": attempt.epoch, "digest": digest, "created_at": self._clock()}

        async def keep(session: Any) -> None:
            same = (checkpoints.c.run_id == attempt.run_id) & (checkpoints.c.step == step)
            changed = await session.execute(update(checkpoints).where(same).values(**row))
            if _rows(changed) == 0:
                await session.execute(insert(checkpoints).values(run_id=attempt.run_id, step=step, **row))

        await self._commit(attempt, cause, {}, fact, "run-checkpointed", f"{attempt.epoch}/{step}", keep)

    async def paused(self, attempt: Attempt) -> None:
        """The run waits, as wished."""
        await self._commit(attempt, None, {"status": RunStatus.PAUSED.value, "pid": 0})

    async def sampled(self, attempt: Attempt, word: Sampled) -> None:
        """Answers written while training."""
        samples = {"samples": [each.model_dump(exclude={"kind"}) for each in word.samples], "samples_step": word.step}
        await self.detailed(attempt, samples)

    async def detailed(self, attempt: Attempt, more: dict[str, Any]) -> None:
        """Add to what is known of the run; a key that is there is replaced."""
        run = await self.get(attempt.run_id)
        await self._commit(attempt, None, {"details": {**(run.details if run else {}), **more}})

    async def completed(
        self, attempt: Attempt, cause: Envelope[TrainModel], fact: RunCompleted, actual: dict[str, Any] | None = None
    ) -> None:
        """The adapter is durable: the run succeeded."""
        if actual:
            await self.detailed(attempt, {"actual": actual, "final_loss": fact.final_loss})
        values = {
            "run_manifest_digest": fact.run_manifest_digest,
            "status": RunStatus.SUCCEEDED.value,
            "adapter_digest": fact.adapter_digest,
            "step": fact.steps,
            "loss": fact.final_loss,
            "eta_seconds": 0.0,
            "pid": 0,
        }
        await self._commit(attempt, cause, values, fact, "run-completed")

    async def failed(
        self, attempt: Attempt, cause: Envelope[TrainModel], reason: str, *, cancelled: bool = False
    ) -> None:
        """The run ended without an adapter."""
        fact = RunFailed(**_about(attempt), reason=reason, cancelled=cancelled)
        status = RunStatus.CANCELLED if cancelled else RunStatus.FAILED
        values = {"status": status.value, "reason": reason, "pid": 0}
        await self._commit(attempt, cause, values, fact, "run-failed")

    async def estimated(self, run_id: str, plan: dict[str, Any]) -> None:
        """What an ended run would have been expected to be."""
        run = await self.get(run_id)
        if run is not None:
            async with self._database.unit(None) as unit:
                details = {**run.details, "plan": plan}
                await unit.session.execute(update(runs).where(runs.c.run_id == run_id).values(details=details))

    async def checkpoints(self, run_id: str) -> list[tuple[int, str]]:
        """Committed checkpoints as (step, digest), newest step first."""
        query = (
            select(checkpoints.c.step, checkpoints.c.digest)
            .where(checkpoints.c.run_id == run_id)
            .order_by(desc(checkpoints.c.step))
        )
        async with self._database.reading() as session:
            return [(int(row.step), str(row.digest)) for row in (await session.execute(query)).all()]

    async def get(self, run_id: str) -> Run | None:
        """The run as it stands."""
        found = await self._find(select(runs).where(runs.c.run_id == run_id))
        return found[0] if found else None

    async def of_task(self, task: str, limit: int = 200) -> list[Run]:
        """Runs of a task (of all with ""), newest first."""
        query = select(runs).order_by(desc(runs.c.created_at)).limit(limit)
        return await self._find(query.where(runs.c.task == task) if task else query)

    async def _find(self, query: Any) -> list[Run]:
        async with self._database.reading() as session:
            rows = (await session.execute(query)).mappings().all()
        return [Run(**{**row, "status": RunStatus(row["status"])}) for row in rows]

    async def _commit(
        self,
        attempt: Attempt,
        cause: Envelope[TrainModel] | None,
        values: dict[str, Any],
        fact: Event | None = None,
        output: str = "",
        key: str | None = None,
        also: Callable[[Any], Any] | None = None,
    ) -> None:
        async with self._database.unit(cause) as unit:
            # The epoch is checked by the write itself: a read before it could be overtaken by a newer attempt.
            mine = (runs.c.run_id == attempt.run_id) & (runs.c.epoch == attempt.epoch) & runs.c.status.not_in(_ENDED)
            changed = await unit.session.execute(update(runs).where(mine).values(epoch=attempt.epoch, **values))
            if _rows(changed) == 0:
                raise StaleEpoch(
                    f"attempt {attempt.epoch} of run {attempt.run_id} is not the newest, or the run has ended",
                    run_id=attempt.run_id, epoch=attempt.epoch,
                )  # fmt: skip
            if also is not None:
                await also(unit.session)
            if fact is not None:
                unit.emit(fact, output=output, key=key)


def _rows(result: Any) -> int:
    return int(result.rowcount)


def _about(attempt: Attempt) -> dict[str, Any]:
    return {"tenant": attempt.tenant, "task": attempt.task, "run_id": attempt.run_id, "epoch": attempt.epoch}


def _new_row(command: TrainModel, now: float) -> dict[str, Any]:
    return {
        "run_id": command.run_id,
        "tenant": command.tenant,
        "task": command.task,
        "turn_id": command.turn_id,
        "base_digest": command.base_digest,
        "dataset_digest": command.dataset_digest,
        "status": RunStatus.RUNNING.value,
        "epoch": 1,
        "step": 0,
        "total_steps": 0,
        "loss": 0.0,
        "tokens_per_second": 0.0,
        "eta_seconds": 0.0,
        "resumed_at_step": 0,
        "killed_at_step": 0,
        "adapter_digest": "",
        "reason": "",
        "pid": 0,
        "heartbeat_at": now,
        "created_at": now,
    }
