"""Turns a message into an envelope, opens the handler's span and lets unknown facts pass."""

from collections.abc import Mapping
from typing import Any

from faststream import BaseMiddleware
from faststream.nats import NatsMessage

from libs.contracts.envelope import Envelope, Event
from libs.contracts.errors import InvalidInput
from libs.eventing.cloudevents import attributes, decode
from libs.telemetry import counter, get_logger, span

log = get_logger(__name__)


class Models:
    """The payload models one subscription understands, by CloudEvents type."""

    def __init__(self, models: type[Event] | tuple[type[Event], ...]) -> None:
        # Facts evolve: a subscription to many types lets a new one pass, a subscription to one type refuses another.
        self.evolving = isinstance(models, tuple)
        self._by_type = {model.event_type(): model for model in (models if isinstance(models, tuple) else (models,))}

    def knows(self, event_type: str) -> bool:
        """Whether a payload of this type can be decoded."""
        return event_type in self._by_type

    async def decode(self, message: NatsMessage) -> Envelope[Any]:
        """FastStream decoder: the envelope of the message; InvalidInput names what is wrong."""
        given = attributes(message.headers)
        model = self._by_type.get(given.type)
        if model is None:
            raise InvalidInput(f"type {given.type!r} is none of {', '.join(self._by_type)}", field="ce-type")
        return decode(model, message.raw_message.subject, message.body, message.headers)


class CloudEventsMiddleware:
    """Innermost of the three; one per broker, told apart by durable."""

    def __init__(self, models: Mapping[str, Models]) -> None:
        self._models = models

    def __call__(self, msg: Any, /, *, context: Any) -> BaseMiddleware:
        """FastStream asks for one per message."""
        return _CloudEvents(msg, context=context, models=self._models)


class _CloudEvents(BaseMiddleware):  # type: ignore[misc]
    def __init__(self, msg: Any, /, *, context: Any, models: Mapping[str, Models]) -> None:
        super().__init__(msg, context=context)
        self._models = models

    async def consume_scope(self, call_next: Any, msg: NatsMessage) -> Any:
        """Decode, open the span, go on; an unknown fact ends here and is acknowledged."""
        durable = msg.raw_message.metadata.consumer
        models = self._models[durable]
        event_type = attributes(msg.headers).type
        if models.evolving and not models.knows(event_type):
            counter("events_unknown", "facts of a type this service does not know", ["consumer"]).labels(durable).inc()
            log.debug("unknown fact passed over", consumer=durable, type=event_type)
            return None
        envelope: Envelope[Event] = await msg.decode()
        with span(
            f"handle {envelope.type}", parent=envelope.traceparent, event_id=envelope.id, turn_id=envelope.turn_id
        ):
            return await call_next(msg)
