"""The one table of streams, consumers, KV buckets and who may publish what; services never declare any of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from libs.contracts.errors import NotFound
from libs.contracts.subjects import (
    COMMANDS,
    DEAD_LETTERS,
    ENGINES,
    EVENTS,
    FEEDBACK,
    INFERENCE,
    KEYS,
    OUTCOME,
    ROUTES,
    RULES,
    RUNS,
    TASKS,
)

Service = Literal[
    "ingestion", "curation", "trainer", "evaluator", "registry", "gateway", "engine", "console", "pawl", "upstream"
]
SERVICES: tuple[Service, ...] = (
    "ingestion",
    "curation",
    "trainer",
    "evaluator",
    "registry",
    "gateway",
    "engine",
    "console",
    "pawl",
    "upstream",
)
ADVISORY = "ADVISORY"

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream. Times in seconds; what is not named here (bytes, replicas, placement) stays the operator's."""

    name: str
    subjects: tuple[str, ...]
    description: str
    max_age: float
    duplicate_window: float = 2 * MINUTE
    work_queue: bool = False
    atomic: bool = False
    """Whether batches of messages may be published as one (ADR-50)."""


@dataclass(frozen=True, slots=True)
class Consumer:
    """A durable pull consumer of one service.

    `ack_wait` in seconds: a killed holder's message is delivered again after it. `max_deliver` is the delivery on which
    a failing message is given up; -1 leaves that to the batch consumer, which tells an outage from a poison message.
    The broker allows `spare` deliveries more: a drain or a kill -9 uses one up, also while a last try is being held.
    """

    durable: str
    stream: str
    service: Service
    subjects: tuple[str, ...]
    ack_wait: float = 30.0
    max_deliver: int = 8
    max_ack_pending: int = 1000
    spare: int = 8


@dataclass(frozen=True, slots=True)
class Bucket:
    """A KV bucket. `ttl` in seconds, 0 for ever; entries of a bucket with a ttl must be refreshed by a beat."""

    name: str
    writers: tuple[Service, ...]
    readers: tuple[Service, ...]
    description: str
    history: int = 1
    ttl: float = 0.0


@dataclass(frozen=True, slots=True)
class Publisher:
    """A subject pattern and the services whose key may publish to it."""

    subject: str
    services: tuple[Service, ...]


STREAMS: tuple[Stream, ...] = (
    Stream(FEEDBACK, ("feedback.>",), "production feedback, as acknowledged at a door", 14 * DAY, HOUR),
    Stream(INFERENCE, ("inference.>",), "every inference answered", 14 * DAY, HOUR, atomic=True),
    Stream(OUTCOME, ("outcome.>",), "feedback joined to its inference, without text", 14 * DAY, HOUR, atomic=True),
    Stream(EVENTS, ("evt.>",), "facts the services publish about themselves", 90 * DAY, HOUR),
    Stream(COMMANDS, ("cmd.>",), "work the registry asks for", 30 * DAY, HOUR, work_queue=True),
    Stream(DEAD_LETTERS, ("dlq.>",), "what could not be handled, with the reason", 30 * DAY, HOUR),
    Stream(
        ADVISORY,
        ("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>", "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>"),
        "the broker's own word on messages that ran out of deliveries or were terminated",
        30 * DAY,
    ),
)

# A job beats its lease every third of ack_wait, so a short one is what hands a killed worker's job over soon.
LEASE = 8.0
COMMAND_DELIVERIES = 20

CONSUMERS: tuple[Consumer, ...] = (
    Consumer("curation-build", COMMANDS, "curation", ("cmd.curation.build.v1",), LEASE, COMMAND_DELIVERIES),
    Consumer("trainer-train", COMMANDS, "trainer", ("cmd.trainer.train.v1",), LEASE, COMMAND_DELIVERIES),
    Consumer("evaluator-evaluate", COMMANDS, "evaluator", ("cmd.evaluator.evaluate.v1",), LEASE, COMMAND_DELIVERIES),
    Consumer(
        "ingestion-feedback", FEEDBACK, "ingestion", ("feedback.>",), LEASE, max_deliver=-1, max_ack_pending=20_000
    ),
    Consumer(
        "ingestion-inference", INFERENCE, "ingestion", ("inference.>",), LEASE, max_deliver=-1, max_ack_pending=20_000
    ),
    Consumer("evaluator-inference", INFERENCE, "evaluator", ("inference.>",), max_deliver=-1, max_ack_pending=20_000),
    Consumer("evaluator-outcome", OUTCOME, "evaluator", ("outcome.>",), max_deliver=-1, max_ack_pending=20_000),
    Consumer("registry-ingestion", EVENTS, "registry", ("evt.ingestion.>",), LEASE),
    Consumer("registry-curation", EVENTS, "registry", ("evt.curation.>",), LEASE),
    Consumer("registry-trainer", EVENTS, "registry", ("evt.trainer.>",), LEASE),
    Consumer("registry-evaluator", EVENTS, "registry", ("evt.evaluator.>",), LEASE),
    Consumer("registry-advisories", ADVISORY, "registry", ("$JS.EVENT.ADVISORY.CONSUMER.>",), max_deliver=-1),
    Consumer("curation-segments", EVENTS, "curation", ("evt.ingestion.segment.>",)),
    Consumer("curation-rewritten", EVENTS, "curation", ("evt.ingestion.segments.>",)),
    Consumer("ingestion-erasures", EVENTS, "ingestion", ("evt.curation.subject.>",)),
    Consumer("curation-tasks", EVENTS, "curation", ("evt.registry.task.>",)),
    Consumer("evaluator-tasks", EVENTS, "evaluator", ("evt.registry.task.>",)),
    Consumer("evaluator-rollouts", EVENTS, "evaluator", ("evt.registry.rollout.>",)),
)

BUCKETS: tuple[Bucket, ...] = (
    Bucket(ROUTES, ("registry",), ("gateway", "engine", "evaluator", "console", "pawl"), "desired routing per task"),
    Bucket(ENGINES, ("engine",), ("gateway", "registry", "evaluator", "pawl"), "what each engine can serve", ttl=30.0),
    Bucket(KEYS, ("registry",), ("gateway", "console", "ingestion"), "API keys by their hash"),
    Bucket(RULES, ("registry",), ("gateway", "pawl"), "an operator's routing rules per tenant"),
    Bucket(RUNS, ("registry",), ("trainer",), "what the registry wants of each run"),
    Bucket(
        TASKS,
        ("registry",),
        ("ingestion", "curation", "trainer", "evaluator", "gateway", "engine", "console", "pawl"),
        "task specifications",
    ),
)

PUBLISHERS: tuple[Publisher, ...] = (
    Publisher("feedback.>", ("gateway", "ingestion", "pawl", "upstream")),
    Publisher("inference.>", ("gateway",)),
    Publisher("outcome.>", ("ingestion",)),
    Publisher("evt.ingestion.>", ("ingestion",)),
    Publisher("evt.curation.>", ("curation",)),
    Publisher("evt.trainer.>", ("trainer",)),
    Publisher("evt.evaluator.>", ("evaluator",)),
    Publisher("evt.registry.>", ("registry",)),
    Publisher("evt.gateway.>", ("gateway",)),
    Publisher("evt.engine.>", ("engine",)),
    Publisher("cmd.>", ("registry",)),
)


def stream_of(subject: str) -> str:
    """Name of the stream that stores `subject`; NotFound when no stream does."""
    for stream in STREAMS:
        if any(matches(pattern, subject) for pattern in stream.subjects):
            return stream.name
    raise NotFound(f"no stream of the topology stores {subject!r}", field="subject")


def consumer(durable: str, table: Sequence[Consumer] = CONSUMERS) -> Consumer:
    """The consumer of that durable name; NotFound when the table has none."""
    for row in table:
        if row.durable == durable:
            return row
    raise NotFound(f"no consumer {durable!r} in the topology", field="durable")


def bucket(name: str) -> Bucket:
    """The bucket of that name; NotFound when the table has none."""
    for row in BUCKETS:
        if row.name == name:
            return row
    raise NotFound(f"no bucket {name!r} in the topology", field="bucket")


def matches(pattern: str, subject: str) -> bool:
    """Whether a NATS subject pattern (`*` one token, `>` the rest) covers `subject`."""
    wanted, given = pattern.split("."), subject.split(".")
    for position, part in enumerate(wanted):
        if part == ">":
            return len(given) > position
        if position >= len(given) or part not in ("*", given[position]):
            return False
    return len(wanted) == len(given)
