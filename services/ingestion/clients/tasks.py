"""What ingestion knows of the tasks: the registry's desired state, asked afresh before a task counts as unknown."""

import asyncio
import contextlib
from pathlib import Path

from pydantic import ValidationError

from libs.contracts.errors import NotFound, Unavailable
from libs.contracts.events import TaskApplied
from libs.contracts.ids import check_name
from libs.contracts.subjects import TASKS, task_key
from libs.contracts.task import TaskSpec
from libs.eventing.connection import NatsLink
from libs.eventing.kv import DesiredState, kv_get


class Tasks:
    """The declared tasks; a local copy stands in while the broker is away."""

    def __init__(self, link: NatsLink, cache_path: Path) -> None:
        self._link = link
        self._state = DesiredState(link, TASKS, TaskApplied, cache_path)

    async def start(self) -> None:
        """Begin to follow the bucket."""
        await self._state.start()

    async def stop(self) -> None:
        """Stop following."""
        await self._state.stop()

    def check(self) -> str | None:
        """Readiness: None once tasks are known."""
        return self._state.check()

    async def spec(self, tenant: str, task: str, *, patience: float = 0.0) -> TaskSpec:
        """The task's specification; NotFound names the known tasks, Unavailable when nobody can be asked.

        `patience`, in seconds, is for a caller that has just seen the task applied: the word of it may be on its way.
        """
        key = task_key(check_name(tenant, "tenant"), check_name(task, "task"))
        if patience:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._state.wait_for(lambda values: key in values), patience)
        held = self._state.values.get(key)
        if held is not None:
            return held.spec
        # The watch may lag behind an apply that the caller has just seen succeed.
        if not self._link.connected:
            raise Unavailable(f"task {task!r} is not known and NATS cannot be asked", reason="NATS_UNAVAILABLE")
        entry = await kv_get(self._link, TASKS, key)
        if entry.value is not None:
            try:
                return TaskApplied.model_validate_json(entry.value).spec
            except ValidationError as error:
                raise Unavailable(
                    f"task {task!r} cannot be read by this version: {error.error_count()} errors"
                ) from error
        known = sorted(each.task for each in self._state.values.values() if each.tenant == tenant)
        raise NotFound(
            f"no task {task!r}; " + (f"known tasks: {', '.join(known)}" if known else "no task is applied yet"),
            reason="TASK_NOT_FOUND",
            field="task",
        )
