"""Brings a broker to the topology: `plan` says what differs, `apply` changes exactly that."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from libs.contracts.errors import FailedPrecondition
from libs.eventing.kv import kv_stream
from libs.eventing.topology import BUCKETS, CONSUMERS, STREAMS, Bucket, Consumer, Stream


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: `kind` is stream, bucket or consumer; `fields` map a name to (found, wanted); empty = create."""

    kind: str
    name: str
    fields: dict[str, tuple[object, object]]

    def __str__(self) -> str:
        if not self.fields:
            return f"create {self.kind} {self.name}"
        parts = ", ".join(f"{field}: {found} -> {wanted}" for field, (found, wanted) in sorted(self.fields.items()))
        return f"update {self.kind} {self.name} ({parts})"


async def plan(js: JetStreamContext, consumers: Sequence[Consumer] = CONSUMERS) -> list[Change]:
    """What `apply` would change; nothing is written."""
    return await _walk(js, consumers, write=False)


async def apply(js: JetStreamContext, consumers: Sequence[Consumer] = CONSUMERS) -> list[Change]:
    """Create what is missing and update what differs in a field the table names; the rest stays the operator's.

    Raises FailedPrecondition, naming the stream or consumer, where the broker cannot change it in place.
    """
    return await _walk(js, consumers, write=True)


async def _walk(js: JetStreamContext, consumers: Sequence[Consumer], *, write: bool) -> list[Change]:
    changes: list[Change] = []
    existing: set[str] = set()
    for stream in STREAMS:
        changes += await _stream(js, "stream", stream.name, _stream_fields(stream), write=write, existing=existing)
    for bucket in BUCKETS:
        name = kv_stream(bucket.name)
        changes += await _stream(js, "bucket", name, _bucket_fields(bucket), write=write, existing=existing)
    for consumer in consumers:
        changes += await _consumer(js, consumer, write=write, stream_exists=consumer.stream in existing)
    return changes


def _stream_fields(stream: Stream) -> dict[str, Any]:
    return {
        "subjects": list(stream.subjects),
        "description": stream.description,
        "retention": RetentionPolicy.WORK_QUEUE if stream.work_queue else RetentionPolicy.LIMITS,
        "storage": StorageType.FILE,
        "max_age": stream.max_age,
        "duplicate_window": stream.duplicate_window,
        "allow_direct": True,
        **({"allow_atomic": True} if stream.atomic else {}),
    }


def _bucket_fields(bucket: Bucket) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "subjects": [f"$KV.{bucket.name}.>"],
        "description": bucket.description,
        "storage": StorageType.FILE,
        "max_msgs_per_subject": bucket.history,
        "max_age": bucket.ttl,
        "duplicate_window": min(bucket.ttl, 120.0) if bucket.ttl else 120.0,
        "discard": DiscardPolicy.NEW,
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_msg_ttl": True,
    }
    if bucket.ttl:
        # The broker leaves a marker where an entry expired, so that watchers learn of it.
        fields["subject_delete_marker_ttl"] = bucket.ttl
    return fields


def _consumer_fields(consumer: Consumer) -> dict[str, Any]:
    one = len(consumer.subjects) == 1
    return {
        "ack_wait": consumer.ack_wait,
        "max_deliver": consumer.max_deliver + consumer.spare if consumer.max_deliver > 0 else -1,
        "max_ack_pending": consumer.max_ack_pending,
        "filter_subject": consumer.subjects[0] if one else None,
        "filter_subjects": None if one else list(consumer.subjects),
    }


async def _stream(
    js: JetStreamContext, kind: str, name: str, wanted: dict[str, Any], *, write: bool, existing: set[str]
) -> list[Change]:
    try:
        found = (await js.stream_info(name)).config
    except NotFoundError:
        if write:
            await _do(kind, name, js.add_stream(StreamConfig(name=name, **wanted)))
            existing.add(name)
        return [Change(kind, name, {})]
    existing.add(name)
    differs = _differences(found, wanted)
    if differs and write:
        await _do(kind, name, js.update_stream(found.evolve(**{field: wanted[field] for field in differs})))
    return [Change(kind, name, differs)] if differs else []


async def _consumer(js: JetStreamContext, row: Consumer, *, write: bool, stream_exists: bool) -> list[Change]:
    wanted = _consumer_fields(row)
    found: ConsumerConfig | None = None
    if stream_exists:
        try:
            found = (await js.consumer_info(row.stream, row.durable)).config
        except NotFoundError:
            found = None
    if found is None:
        if write:
            config = ConsumerConfig(name=row.durable, durable_name=row.durable, **wanted)
            await _do("consumer", row.durable, js.add_consumer(row.stream, config))
        return [Change("consumer", row.durable, {})]
    differs = _differences(found, wanted)
    if differs and write:
        config = found.evolve(**{field: wanted[field] for field in differs})
        await _do("consumer", row.durable, js.add_consumer(row.stream, config))
    return [Change("consumer", row.durable, differs)] if differs else []


def _differences(found: Any, wanted: dict[str, Any]) -> dict[str, tuple[object, object]]:
    differs: dict[str, tuple[object, object]] = {}
    for field, value in wanted.items():
        held = getattr(found, field)
        if (held or None) != (value or None):
            differs[field] = (held, value)
    return differs


async def _do(kind: str, name: str, request: Any) -> None:
    try:
        await request
    except APIError as error:
        raise FailedPrecondition(
            f"the broker refuses the {kind} {name}: {error.description}", reason="TOPOLOGY_REFUSED", field=name
        ) from error
