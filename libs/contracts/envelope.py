"""The envelope of every event: CloudEvents 1.0 attributes, trace, turn and cause around a typed payload."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from libs.contracts.ids import new_id


class Event(BaseModel):
    """Base of every payload; unknown fields of a newer minor version are ignored on reading."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    subject: ClassVar[str]
    """NATS subject; may hold `{tenant}` and `{task}`."""

    @classmethod
    def event_type(cls) -> str:
        """CloudEvents `type`: the subject without its addressing."""
        return cls.subject.replace(".{tenant}", "").replace(".{task}", "")


E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True)
class Envelope(Generic[E]):
    """One event on the wire. `time` is aware UTC; `traceparent` is W3C; `cause_id` is the id of the event handled."""

    id: str
    subject: str
    source: str
    time: datetime
    data: E
    traceparent: str | None = None
    turn_id: str | None = None
    cause_id: str | None = None

    @property
    def type(self) -> str:
        """CloudEvents `type` of the payload."""
        return self.data.event_type()


def envelop(
    data: E,
    *,
    source: str,
    id: str | None = None,  # noqa: A002 - CloudEvents calls it so
    tenant: str = "default",
    task: str = "",
    traceparent: str | None = None,
    turn_id: str | None = None,
    cause_id: str | None = None,
) -> Envelope[E]:
    """Wrap a payload; the subject's `{tenant}` and `{task}` are filled in."""
    return Envelope(
        id=id or new_id("evt"),
        subject=data.subject.replace("{tenant}", tenant).replace("{task}", task),
        source=source,
        time=datetime.now(UTC),
        data=data,
        traceparent=traceparent,
        turn_id=turn_id,
        cause_id=cause_id,
    )
