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
    # Upstream systems are plain NATS clients, which await confirmations where every client does.
    inbox = "_INBOX" if service == "upstream" else inbox_prefix(service)
    return {"publish": {"allow": sorted(set(publish))}, "subscribe": {"allow": [f"{inbox}.>"]}}


def authorization(users: Mapping[Service, Mapping[str, str]], job: Mapping[str, str]) -> str:
    """The part of a nats-server.conf that says who may do what.

    `users` maps a service to what it proves itself by: `{"nkey": "U..."}` or `{"user": ..., "password": ...}`; a value
    that begins with `$` is read by the server from its environment. `job` is that of the topology job, which alone may
    make streams. A client that shows nothing is `upstream`, if `users` has it by a name: it may publish feedback.
    """
    lines = ["authorization {", "  users: [", f"    {{ {', '.join(_shown(job))} }}"]
    for service in SERVICES:
        if service in users:
            lines.append("    {")
            lines += [f"      {line}" for line in _shown(users[service])]
            lines.append("      permissions: {")
            for direction, rule in permissions(service).items():
                allowed = ", ".join(f'"{subject}"' for subject in rule["allow"])
                lines.append(f"        {direction}: {{ allow: [{allowed}] }}")
            lines.append("      }")
            lines.append("    }")
    lines += ["  ]", "}"]
    if "user" in users.get("upstream", {}):
        lines.append(f"no_auth_user: {users['upstream']['user']}")
    return "\n".join(lines) + "\n"


def _shown(proof: Mapping[str, str]) -> list[str]:
    return [f"{name}: {value if value.startswith('$') else json.dumps(value)}" for name, value in proof.items()]
