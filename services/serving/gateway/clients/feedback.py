"""The gateway's feedback door: validated, then stored in the stream, then answered."""

import asyncio
from collections.abc import Sequence

from pydantic import ValidationError

from libs.contracts.envelope import envelop
from libs.contracts.errors import InvalidInput, NotFound, Unavailable
from libs.contracts.feedback import Feedback
from libs.contracts.routes import KeyRole
from libs.eventing.connection import NatsLink
from libs.eventing.publish import publish
from libs.telemetry import counter, current_traceparent
from services.serving.gateway.domain import Caller, Tables
from services.serving.gateway.domain.routing import check_task

MAX_EVENTS = 1000
_AT_ONCE = 64
_NEWS_SECONDS = 1.0


class StreamDoor:
    """Publishes feedback for a caller. What was acknowledged here is in the stream, on disk."""

    def __init__(self, link: NatsLink, tables: Tables) -> None:
        self._link = link
        self._tables = tables
        self._published = counter("gateway_feedback", "Feedback events stored in the stream.")

    async def publish(self, caller: Caller, task: str, documents: Sequence[bytes], base_field: str) -> list[int]:
        """Store documents (JSON) of one task; returns their stream sequences, in order, once all are stored.

        Every document is validated before the first is sent: InvalidInput names `<base_field>.<index>.<field>`.
        Raises NotFound for a task without a route, whose events would end as dead letters, and Unavailable when the
        broker is away; sending the same ids again counts them once.
        """
        caller.need(KeyRole.CLIENT)
        check_task(task)
        if not 1 <= len(documents) <= MAX_EVENTS:
            raise InvalidInput(f"must hold 1 to {MAX_EVENTS} events, not {len(documents)}", field=base_field or None)
        events = [_parse(document, _place(base_field, number)) for number, document in enumerate(documents)]
        if not self._link.connected:
            raise Unavailable("feedback cannot be stored: the broker is away", reason="NATS_UNAVAILABLE")
        gate = asyncio.Semaphore(_AT_ONCE)
        traceparent = current_traceparent()

        async def send(event: Feedback) -> int:
            async with gate:
                envelope = envelop(
                    event,
                    source=f"gateway/{caller.name}",
                    # The stream drops a repeated id by itself for a while; ingestion does so for good.
                    id=f"{caller.tenant}/{task}/{event.source}/{event.id}" if event.id else None,
                    tenant=caller.tenant,
                    task=task,
                    traceparent=traceparent,
                )
                return int((await publish(self._link.js, envelope)).seq)

        await self._find(caller.tenant, task)
        sequences = await asyncio.gather(*(send(event) for event in events))
        self._published.inc(len(sequences))
        return sequences

    async def _find(self, tenant: str, task: str) -> None:
        for last in (False, True):
            try:
                self._tables.route(tenant, task)
            except NotFound as failure:
                if last:
                    raise NotFound(f"there is no task {task!r}", reason="TASK_NOT_FOUND", field="task") from failure
                await self._tables.wait_for_engines(_NEWS_SECONDS)  # it may have been applied a moment ago


def _place(base_field: str, number: int) -> str:
    return f"{base_field}.{number}" if base_field else ""


def _parse(document: bytes, place: str) -> Feedback:
    try:
        return Feedback.model_validate_json(document)
    except ValidationError as failure:
        first = failure.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join((*((place,) if place else ()), *(str(part) for part in first["loc"])))
        message = str(first["msg"]).removeprefix("Value error, ")
        raise InvalidInput(message, field=field or None, reason="INVALID_FEEDBACK") from failure
