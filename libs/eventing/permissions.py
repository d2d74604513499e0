"""nats-server permissions per service, generated from the topology: the broker enforces who may say what."""

import json
from collections.abc import Mapping
from typing import Any

from libs.eventing.connection import inbox_prefix
from libs.eventing.kv import kv_stream
from libs.eventing.topology import ADVISORY, BUCKETS, CONSUMERS, PUBLISHERS, SERVICES, STREAMS, Service

_OPERATORS: tuple[Service, ...] = ("registry", "pawl")
"""Who reads, redrives and drops dead letters."""


def permissions(service: Service) -> dict[str, Any]:
    """`{"publish": {"allow": [...]}, "subscribe": {"allow": [...]}}` of one service, as nats-server.conf has it."""
    publish = [row.subject for row in PUBLISHERS if service in row.services]
    for consumer in CONSUMERS:
        if consumer.service == service:
            address = f"{consumer.stream}.{consumer.durable}"
            publish += [f"$JS.API.CONSUMER.MSG.NEXT.{address}", f"$JS.API.CONSUMER.INFO.{address}"]
            publish += [f"$JS.ACK.{address}.>", f"dlq.{consumer.durable}"]
    for bucket in BUCKETS:
        stream = kv_stream(bucket.name)
        if service in bucket.writers:
            publish.append(f"$KV.{bucket.name}.>")
        if service in (*bucket.writers, *bucket.readers):
            publish += [
                f"$JS.API.STREAM.INFO.{stream}",
                f"$JS.API.DIRECT.GET.{stream}.>",
                f"$JS.API.CONSUMER.CREATE.{stream}.>",
                f"$JS.API.CONSUMER.CREATE.{stream}",
                f"$JS.API.CONSUMER.INFO.{stream}.>",
                f"$JS.API.CONSUMER.DELETE.{stream}.>",
                f"$JS.FC.{stream}.>",
            ]
    if service in _OPERATORS:
        publish += ["$JS.API.STREAM.INFO.DLQ", "$JS.API.STREAM.MSG.GET.>", "$JS.API.STREAM.MSG.DELETE.DLQ"]
        publish += ["$JS.API.STREAM.MSG.DELETE.CMD", "dlq.>"]
        # A redriven letter goes back to where it came from, whoever sent it first.
        publish += [
            subject for stream in STREAMS if stream.name not in ("DLQ", ADVISORY) for subject in stream.subjects
        ]
    return {
        "publish": {"allow": sorted(set(publish))},
        "subscribe": {"allow": [f"{inbox_prefix(service)}.>"]},
    }


def authorization(users: Mapping[Service, Mapping[str, str]]) -> str:
    """An `authorization { users: [...] }` block for nats-server.conf.

    `users` maps a service to what it proves itself by: `{"nkey": "U..."}` or `{"user": ..., "password": ...}`.
    """
    lines = ["authorization {", "  users: ["]
    for service in SERVICES:
        if service in users:
            lines.append("    {")
            lines += [f"      {name}: {json.dumps(value)}" for name, value in users[service].items()]
            lines.append("      permissions: {")
            for direction, rule in permissions(service).items():
                allowed = ", ".join(f'"{subject}"' for subject in rule["allow"])
                lines.append(f"        {direction}: {{ allow: [{allowed}] }}")
            lines.append("      }")
            lines.append("    }")
    lines += ["  ]", "}"]
    return "\n".join(lines) + "\n"
