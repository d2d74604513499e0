"""Outcomes go to their stream before the feedback they come from is acknowledged."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from nats.errors import Error as NatsError

from libs.contracts.errors import Permanent, Unavailable
from libs.contracts.ids import derived_id
from libs.contracts.inference import Outcome
from libs.contracts.subjects import OUTCOME
from libs.eventing.cloudevents import CONTENT_TYPE
from libs.eventing.connection import NatsLink
from libs.eventing.publish import MOST_ATOMIC, publish_atomic
from libs.telemetry import current_traceparent
from services.ingestion.domain.joined import OutcomeWords
from services.ingestion.domain.signals import Arrival

_CONFIRM_SECONDS = 10.0


def outcome_key(arrival: Arrival) -> str:
    """The name of a signal's outcome among all outcomes."""
    return f"{arrival.tenant}/{arrival.task}/{arrival.source}/{arrival.id}"


class Outcomes:
    """Publishes outcomes, each under an id that its signal alone decides: said twice, it is stored once."""

    def __init__(self, link: NatsLink, service: str = "ingestion") -> None:
        self._link = link
        self._service = service
        self._encoder = msgspec.json.Encoder()

    async def tell(self, outcomes: Sequence[tuple[Arrival, OutcomeWords]]) -> None:
        """Publish and return once all are stored; Transient when the broker is away, and then all may be told again."""
        if not outcomes:
            return
        js = self._link.js
        messages, common = self._encoded(outcomes), self._common()
        parts = [messages[at : at + MOST_ATOMIC] for at in range(0, len(messages), MOST_ATOMIC)]
        try:
            # All are on their way before the first is confirmed; one connection keeps them in order.
            stored = await asyncio.gather(*(publish_atomic(js, OUTCOME, part, common) for part in parts))
            for part in (part for part, whole in zip(parts, stored, strict=True) if not whole):
                # Some were told by an attempt that did not come to its end.
                sent = [
                    await js.publish_async(subject, body, stream=OUTCOME, headers=common | headers)
                    for subject, body, headers in part
                ]
                await asyncio.wait_for(asyncio.gather(*sent), _CONFIRM_SECONDS)
        except (NatsError, OSError, Permanent) as error:
            # Whatever it is, the signals are counted and none of them is to blame: they are held, not buried.
            raise Unavailable(f"outcomes are not stored: {error}", reason="OUTCOMES_NOT_STORED") from error

    def _common(self) -> dict[str, str]:
        return {
            "content-type": CONTENT_TYPE,
            "ce-specversion": "1.0",
            "ce-source": f"pawl/{self._service}",
            "ce-type": Outcome.event_type(),
            "ce-time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        }

    def _encoded(self, outcomes: Sequence[tuple[Arrival, OutcomeWords]]) -> list[tuple[str, bytes, dict[str, str]]]:
        here = current_traceparent()
        messages = []
        for arrival, outcome in outcomes:
            event_id = derived_id(self._service, f"outcome/{outcome_key(arrival)}")
            headers = {"Nats-Msg-Id": event_id, "ce-id": event_id}
            trace = arrival.traceparent or here
            if trace:
                headers["traceparent"] = trace
            messages.append((f"outcome.{arrival.tenant}.{arrival.task}", self._encoder.encode(outcome), headers))
        return messages
