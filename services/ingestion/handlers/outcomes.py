"""Outcomes go to their stream before the feedback they come from is acknowledged."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from nats.errors import Error as NatsError

from libs.contracts.errors import Unavailable
from libs.contracts.ids import derived_id
from libs.contracts.inference import Outcome
from libs.contracts.subjects import OUTCOME
from libs.eventing.cloudevents import CONTENT_TYPE
from libs.eventing.connection import NatsLink
from libs.eventing.publish import translate
from libs.telemetry import current_traceparent
from services.ingestion.domain.joined import OutcomeWords
from services.ingestion.domain.signals import Arrival

_AT_ONCE = 500
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
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        common = {
            "content-type": CONTENT_TYPE,
            "ce-specversion": "1.0",
            "ce-source": f"pawl/{self._service}",
            "ce-type": Outcome.event_type(),
            "ce-time": now,
        }
        here = current_traceparent()
        try:
            for at in range(0, len(outcomes), _AT_ONCE):
                sent = []
                for arrival, outcome in outcomes[at : at + _AT_ONCE]:
                    event_id = derived_id(self._service, f"outcome/{outcome_key(arrival)}")
                    headers = {"Nats-Msg-Id": event_id, "ce-id": event_id, **common}
                    trace = arrival.traceparent or here
                    if trace:
                        headers["traceparent"] = trace
                    subject = f"outcome.{arrival.tenant}.{arrival.task}"
                    body = self._encoder.encode(outcome)
                    sent.append(await js.publish_async(subject, body, stream=OUTCOME, headers=headers))
                await asyncio.wait_for(asyncio.gather(*sent), _CONFIRM_SECONDS)
        except (NatsError, OSError) as error:
            # Whatever it is, the signals are counted and none of them is to blame: they are held, not buried.
            raise Unavailable(f"outcomes are not stored: {translate(error, 'outcome', js)}") from error
