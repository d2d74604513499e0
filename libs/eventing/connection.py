"""One NATS connection per process, shared by the raw client, JetStream and the FastStream broker."""

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faststream.nats import NatsBroker
from nats.aio.client import Client
from nats.errors import Error as NatsError

from libs.contracts.errors import FailedPrecondition, PermissionDenied, Unavailable
from libs.eventing.pull import GuardedJetStream, GuardedPull
from libs.eventing.tasks import end
from libs.telemetry import get_logger

log = get_logger(__name__)

_BLANKS = " \t\n\r\v\f"
_VIOLATION = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE)
_VIOLATION_MEMORY_SECONDS = 60.0
_TELL_AGAIN_SECONDS = 30.0


class _Client(Client):  # type: ignore[misc]
    """The client whose JetStream contexts hand out guarded pull subscriptions."""

    def __init__(self) -> None:
        super().__init__()
        self.pulls: dict[str, GuardedPull] = {}

    def jetstream(self, **options: Any) -> GuardedJetStream:
        return GuardedJetStream(self, **options)

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        """As nats-py's, which asks each character of each name whether it is a space and takes thrice as long."""
        found: dict[str, str] = {}
        for line in raw.decode("utf-8", "replace").split("\r\n"):
            name, colon, value = line.partition(":")
            name = name.strip(_BLANKS)
            if colon and name.isascii() and len(name.split()) < 2:
                found[name] = value.strip(_BLANKS)
        return found


class _Broker(NatsBroker):  # type: ignore[misc]
    """A FastStream broker over a client that the link owns: it neither dials nor drains."""

    def __init__(self, client: Client, *, graceful_timeout: float) -> None:
        super().__init__(
            apply_types=False,
            graceful_timeout=graceful_timeout,
            logger=logging.getLogger("libs.eventing.broker"),
            log_level=logging.DEBUG,
        )
        self._client = client

    async def _connect(self) -> Client:
        self.config.connect(self._client)
        return self._client

    async def stop(self, *_: object) -> None:
        await asyncio.gather(*(subscriber.stop() for subscriber in self.subscribers))
        self.running = False


def exit_process() -> None:
    """End the process at once: a closed connection never comes back, a supervisor starts us anew."""
    os._exit(70)


class NatsLink:
    """The process's connection to NATS.

    Reconnects without end, so the broker may be away for as long as it likes; only a refusal (credentials) or
    `close` closes it for good. A closed link calls `on_closed` unless it was closed on purpose; by default the
    process ends, since a closed client would leave every consumer deaf.

    Args:
        url: One or more `nats://` URLs, comma-separated.
        name: Service name; shown by the broker's monitoring and part of the inbox prefix `_INBOX_<name>`.
        on_closed: Called once when the connection closed by itself.
        nkey_file: Path of an nkey seed; None connects without.
        graceful_timeout: Seconds a short handler may go on after `Consumers.stop` before it is cancelled.
        options: More keywords of `nats.connect`.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        on_closed: Callable[[], None] | None = None,
        nkey_file: Path | None = None,
        graceful_timeout: float = 3.0,
        **options: Any,
    ) -> None:
        self.url = url
        self.name = name
        self._client = _Client()
        self._jetstream: GuardedJetStream | None = None
        self._broker = _Broker(self._client, graceful_timeout=graceful_timeout)
        self._on_closed = on_closed or exit_process
        self._closing = False
        self._connecting: asyncio.Task[None] | None = None
        self._last_error = ""
        self._told = (0.0, "")
        self._violations: dict[str, tuple[float, str]] = {}
        self._listeners: list[Callable[[], None]] = []
        self._options: dict[str, Any] = {
            "servers": [part.strip() for part in url.split(",") if part.strip()],
            "name": name,
            "inbox_prefix": inbox_prefix(name),
            "allow_reconnect": True,
            "max_reconnect_attempts": -1,
            # Half a second between attempts: recovery of the loop must not wait on us.
            "reconnect_time_wait": 0.5,
            "connect_timeout": 3,
            "ping_interval": 10,
            "max_outstanding_pings": 3,
            "error_cb": self._error,
            "closed_cb": self._closed,
            "disconnected_cb": self._disconnected,
            "reconnected_cb": self._reconnected,
            **({"nkeys_seed": str(nkey_file)} if nkey_file else {}),
            **options,
        }

    async def connect(self, wait: bool = True) -> None:
        """Dial; with `wait` return when connected, otherwise at once and go on dialling in the background."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._dial(), name=f"nats-connect-{self.name}")
        if wait:
            await asyncio.shield(self._connecting)

    async def close(self) -> None:
        """Flush and close; safe to call twice and before `connect` finished."""
        if self._closing:
            return
        self._closing = True
        await end(self._connecting)
        if self._client.is_connected:
            try:
                await self._client.flush(timeout=2)
            except NatsError as error:
                log.warning("nats flush before close failed", reason=str(error))
        if self._jetstream is not None and not self._client.is_closed:
            await self._client.close()

    @property
    def connected(self) -> bool:
        """True while the broker answers (as far as the client knows)."""
        return self._jetstream is not None and bool(self._client.is_connected)

    @property
    def client(self) -> Client:
        """The raw nats-py client; Unavailable before the first connection."""
        self._require()
        return self._client

    @property
    def js(self) -> GuardedJetStream:
        """The JetStream context; Unavailable before the first connection."""
        return self._require()

    @property
    def broker(self) -> NatsBroker:
        """The FastStream broker over the same client; started by `Consumers`."""
        return self._broker

    async def wait_connected(self) -> None:
        """Return once the first connection stands; needs `connect` first."""
        if self._connecting is None:
            raise FailedPrecondition("connect() was never called on this link")
        await asyncio.shield(self._connecting)

    def on_connected(self, listener: Callable[[], None]) -> None:
        """Call `listener` after the first connection and after each reconnection."""
        self._listeners.append(listener)

    def check(self) -> str | None:
        """Readiness: None when connected, else why not."""
        if self.connected:
            return None
        if self._client.is_closed and self._jetstream is not None:
            return "nats: connection closed"
        return f"nats: not connected to {self.url}" + (f": {self._last_error}" if self._last_error else "")

    def fail(self, reason: str) -> None:
        """Give the link up as if it had closed by itself: what runs over it is broken beyond repair in this process."""
        log.error("nats link given up", reason=reason)
        self._on_closed()

    def violation(self, subject: str) -> PermissionDenied | None:
        """The broker's refusal of `subject` in the last minute, if any: a forbidden publish only times out."""
        # nats-py hands the broker's errors on in lower case.
        seen = self._violations.get(subject.lower())
        if seen is None or time.monotonic() - seen[0] > _VIOLATION_MEMORY_SECONDS:
            return None
        return PermissionDenied(
            f"the broker forbids {self.name!r} to publish to {subject!r}: {seen[1]}",
            reason="NATS_PERMISSION",
            subject=subject,
        )

    def _require(self) -> GuardedJetStream:
        if self._jetstream is None:
            raise Unavailable(f"no connection to NATS at {self.url} yet", reason="NATS_UNAVAILABLE")
        return self._jetstream

    async def _dial(self) -> None:
        await self._client.connect(**self._options)
        jetstream = self._client.jetstream()
        jetstream.violation = self.violation
        self._jetstream = jetstream
        log.info("nats connected", url=self.url)
        self._announce()

    def _announce(self) -> None:
        for listener in self._listeners:
            listener()

    async def _error(self, error: Exception) -> None:
        self._last_error = str(error) or type(error).__name__
        found = _VIOLATION.search(self._last_error)
        if found:
            self._violations[found[2].lower()] = (time.monotonic(), self._last_error)
            log.error("nats forbids", kind=found[1].lower(), subject=found[2], reason=self._last_error)
        elif self._last_error != self._told[1] or time.monotonic() - self._told[0] > _TELL_AGAIN_SECONDS:
            # A broker that is away fails twice a second with the same words.
            self._told = (time.monotonic(), self._last_error)
            log.warning("nats error", reason=self._last_error)

    async def _disconnected(self) -> None:
        if not self._closing:
            log.warning("nats disconnected", url=self.url)

    async def _reconnected(self) -> None:
        self._last_error = ""
        log.info("nats reconnected", url=self.url)
        self._announce()

    async def _closed(self) -> None:
        if self._closing:
            return
        log.error("nats connection closed", url=self.url, reason=self._last_error)
        self._on_closed()


def inbox_prefix(name: str) -> str:
    """Inbox prefix of a service, so that the broker can keep one service from reading another's replies."""
    return f"_INBOX_{re.sub(r'[^A-Za-z0-9_-]', '_', name)}"
