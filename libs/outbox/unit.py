"""The unit of work: a service's state, the event it handled and everything it says about it, or nothing at all."""

import json
import time
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Table
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession

from libs.contracts.envelope import Envelope, Event, envelop
from libs.contracts.errors import FailedPrecondition, InvalidInput
from libs.contracts.ids import derived_id, new_id
from libs.eventing.cloudevents import encode
from libs.eventing.kv import kv_subject
from libs.telemetry import current_traceparent

EVENT = "event"
KV = "kv"


class UnitOfWork:
    """One transaction. `session` is SQLAlchemy's; `already_handled` says that the cause was handled before.

    Ids of what is emitted derive from the cause and the name of the output, so that a replay says the same thing again
    and not a second thing. Trace and turn go on from the cause.
    """

    def __init__(
        self,
        session: AsyncSession,
        outbox: Table,
        inbox: Table,
        *,
        service: str,
        cause: Envelope[Any] | None,
        consumer: str | None,
    ) -> None:
        self.session = session
        self.already_handled = False
        self.emitted = 0
        self._outbox = outbox
        self._inbox = inbox
        self._service = service
        self._cause = cause
        self._consumer = consumer
        self._rows: list[dict[str, Any]] = []
        self._outputs: set[str] = set()

    def emit(
        self,
        payload: Event,
        *,
        output: str,
        tenant: str = "default",
        task: str = "",
        key: str | None = None,
        turn_id: str | None = None,
        traceparent: str | None = None,
    ) -> str:
        """Publish `payload` after the commit; returns the event's id.

        Args:
            payload: The event.
            output: Name of this effect within its cause; one unit may use a name once (with `key`: once per key).
            tenant: Fills `{tenant}` of the subject; taken from the payload where it has one.
            task: Fills `{task}` of the subject; taken from the payload where it has one.
            key: Tells several effects of one name apart. Without a cause it makes the id deterministic:
                emitting the same (output, key) again is then the same event.
            turn_id: Turn the event belongs to; by default the cause's.
            traceparent: Trace to go on with; by default the current span's, else the cause's.
        """
        name = output if key is None else f"{output}/{key}"
        self._claim(name)
        envelope = envelop(
            payload,
            source=f"pawl/{self._service}",
            id=self._id(name, key),
            tenant=getattr(payload, "tenant", tenant) or tenant,
            task=getattr(payload, "task", task) or task,
            traceparent=traceparent or current_traceparent() or (self._cause.traceparent if self._cause else None),
            turn_id=turn_id or getattr(payload, "turn_id", None) or (self._cause.turn_id if self._cause else None),
            cause_id=self._cause.id if self._cause else None,
        )
        subject, data, headers = encode(envelope)
        self._rows.append(self._row(EVENT, envelope.id, subject, headers, data, None))
        return envelope.id

    def put_kv(self, bucket: str, key: str, value: BaseModel, generation: int) -> None:
        """Write a KV entry after the commit, before the events; an older generation never replaces a newer."""
        self._kv(bucket, key, value.model_dump_json().encode(), generation)

    def delete_kv(self, bucket: str, key: str, generation: int) -> None:
        """Delete a KV entry after the commit; an older generation never deletes a newer value."""
        self._kv(bucket, key, None, generation)

    async def enter(self) -> None:
        """Write the inbox row; sets `already_handled`."""
        if self._cause is None or self._consumer is None:
            return
        # One statement both asks and claims: a second holder of the same event waits here for the first to commit.
        statement = self._insert(self._inbox).values(
            consumer=self._consumer, event_id=self._cause.id, handled_at=time.time()
        )
        result: Any = await self.session.execute(statement.on_conflict_do_nothing())
        self.already_handled = bool(result.rowcount == 0)

    async def flush(self) -> None:
        """Write the outbox rows; the transaction commits after it."""
        if not self._rows:
            return
        if self.already_handled:
            raise FailedPrecondition(
                "an event handled before must have no effects: return when unit.already_handled", reason="HANDLED_TWICE"
            )
        statement = self._insert(self._outbox).on_conflict_do_nothing(index_elements=["msg_id"])
        await self.session.execute(statement, self._rows)
        self.emitted = len(self._rows)

    def _kv(self, bucket: str, key: str, value: bytes | None, generation: int) -> None:
        self._claim(f"kv/{bucket}/{key}/{generation}")
        subject = kv_subject(bucket, key)
        self._rows.append(self._row(KV, f"{subject}@{generation}", subject, {}, value, generation))

    def _claim(self, name: str) -> None:
        if name in self._outputs:
            raise InvalidInput(f"two effects of one unit are both called {name!r}; give them a key", field="output")
        self._outputs.add(name)

    def _id(self, name: str, key: str | None) -> str:
        if self._cause is not None:
            # Two services may react to one cause with an effect of the same name.
            return derived_id(self._cause.id, f"{self._service}/{name}")
        return new_id("evt") if key is None else derived_id(self._service, name)

    def _row(
        self,
        kind: str,
        msg_id: str,
        subject: str,
        headers: dict[str, str],
        payload: bytes | None,
        generation: int | None,
    ) -> dict[str, Any]:
        return {
            "kind": kind,
            "msg_id": msg_id,
            "subject": subject,
            "headers": json.dumps(headers, separators=(",", ":")),
            "payload": payload,
            "generation": generation,
            "created_at": time.time(),
        }

    def _insert(self, table: Table) -> Any:
        dialect = self.session.get_bind().dialect.name
        return sqlite_insert(table) if dialect == "sqlite" else postgres_insert(table)
