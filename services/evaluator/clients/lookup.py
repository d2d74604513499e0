"""What the registry says of a task: its specification and the versions its route holds."""

from pydantic import ValidationError

from libs.contracts.errors import DataLoss, NotFound
from libs.contracts.events import TaskApplied
from libs.contracts.routes import Route
from libs.contracts.subjects import ROUTES, TASKS, task_key
from libs.eventing.connection import NatsLink
from libs.eventing.kv import kv_get


class Lookup:
    """Reads the registry's buckets."""

    def __init__(self, link: NatsLink) -> None:
        self._link = link

    async def task(self, tenant: str, task: str) -> TaskApplied:
        """The task as last applied; NotFound when there is none of that name."""
        held = await kv_get(self._link, TASKS, task_key(tenant, task))
        if held.value is None:
            raise NotFound(f"no task {task!r}", field="task")
        try:
            return TaskApplied.model_validate_json(held.value)
        except ValidationError as error:
            raise DataLoss(f"what is held of task {task!r} cannot be read: {error}") from error

    async def route(self, tenant: str, task: str) -> Route:
        """The route of a task; NotFound when there is none."""
        held = await kv_get(self._link, ROUTES, task_key(tenant, task))
        if held.value is None:
            raise NotFound(f"task {task!r} has no route", field="task")
        try:
            return Route.model_validate_json(held.value)
        except ValidationError as error:
            raise DataLoss(f"the route of task {task!r} cannot be read: {error}") from error
