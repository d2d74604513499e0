"""Pull subscriptions that yield, say what ails them and never hold what nobody will handle."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError, ConnectionDrainingError, ConnectionReconnectingError
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from libs.contracts.errors import PermissionDenied

_QUIET_SECONDS = 1.0
_HANDOVER_DELAY = 0.2
_SETTLE_SECONDS = 0.05
_LEAST_WAIT = 0.01
_MOST_BYTES = 32 * 1024**2
"""Of one request: what a client holds of a stream is bounded by this, however large its messages are."""
# No messages, request ended, refused for now: nothing more comes of what was asked for. Heartbeats say nothing.
_NO_MORE = ("404", "408", "409")
_INFORMATIVE = ("100",)


class GuardedPull(JetStreamContext.PullSubscription):  # type: ignore[misc]
    """A pull subscription for loops that must survive anything.

    nats-py raises at once, without giving way, on a closed connection and on a missing consumer; FastStream's loop
    suppresses both and spins. Here every failure costs a second, sets `trouble` and ends in a `TimeoutError`, which all
    loops take for "nothing there". No request is sent while disconnected: the client would buffer one per round and
    the broker would answer them all at once on return. Once `stopping`, what still arrives is handed back.
    """

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.trouble: str | None = None
        self.stopping = False
        self.fetching_since: float | None = None
        self.last_returned = time.monotonic()

    async def fetch(self, batch: int = 1, timeout: float | None = 5, heartbeat: float | None = None) -> list[Msg]:
        """As nats-py's `fetch`, but raising only its `TimeoutError` (and cancellation)."""
        return await self._fetched(batch, timeout, super().fetch, heartbeat)

    async def fetch_many(self, batch: int, timeout: float) -> list[Msg]:
        """Up to `batch` messages that are there, else the first that come within `timeout` seconds; fails as `fetch`.

        Of large messages it takes fewer, 32 MiB of them.
        nats-py starts a task for every message it takes from the inbox; here the inbox is emptied at a stroke.
        """
        return await self._fetched(batch, timeout, self._bulk)

    async def _fetched(self, batch: int, timeout: float | None, how: Callable[..., Any], *options: Any) -> list[Msg]:
        started = self.fetching_since = time.monotonic()
        try:
            if self._must_stop() or not self._nc.is_connected:
                self.trouble = None if self.stopping else "not connected"
                await asyncio.sleep(min(_QUIET_SECONDS if self._nc.is_closed else 0.1, timeout or _QUIET_SECONDS))
                raise NatsTimeoutError
            messages = await self._guarded(how(batch, timeout, *options), timeout, started)
            if not self._must_stop():
                return messages
            # Shielded: a drain cancels this loop while the message is on its way back.
            await asyncio.shield(hand_back(messages))
            raise NatsTimeoutError
        finally:
            self.fetching_since = None
            self.last_returned = time.monotonic()

    def _must_stop(self) -> bool:
        return self.stopping

    async def quiesce(self) -> None:
        """Take no more: withdraw the request at the broker, and let what it had sent by then be handed back.

        Unsubscribing at both ends at once, as nats-py does, drops what is on its way; it would come after `ack_wait`.
        """
        self.stopping = True
        if self._nc.is_connected and not self._sub._closed:  # noqa: SLF001
            try:
                await self._nc._send_unsubscribe(self._sub._id)  # noqa: SLF001 - nats-py drains only whole connections
                await self._nc.flush(timeout=2)
            except NatsError as error:
                self.trouble = str(error)
            await asyncio.sleep(_SETTLE_SECONDS)

    async def release(self) -> None:
        """Hand back what was delivered but never fetched; after `quiesce`."""
        self.stopping = True
        queue = self._sub._pending_queue  # noqa: SLF001 - nats-py has no public way to what lies in an inbox
        waiting = []
        while not queue.empty():
            waiting.append(queue.get_nowait())
        await hand_back([message for message in waiting if message.reply and self._js.is_status_msg(message) is None])

    async def _bulk(self, batch: int, timeout: float) -> list[Msg]:
        deadline = time.monotonic() + timeout
        messages = self._emptied(batch)[0]
        await self._rest(messages, batch, deadline)
        if not messages:
            # For one message alone: of several the others might come when nobody beats their leases.
            left = deadline - time.monotonic()
            await self._ask({"batch": 1, "expires": int(max(left, _LEAST_WAIT) * 1e9)})
            await self._collect(messages, 1, deadline)
            if not messages:
                raise NatsTimeoutError
            await self._rest(messages, batch, time.monotonic() + timeout)
        return messages

    async def _rest(self, messages: list[Msg], batch: int, deadline: float) -> None:
        """Ask for what is there already and take it."""
        if len(messages) < batch:
            await self._ask({"batch": batch - len(messages), "no_wait": True, "max_bytes": _MOST_BYTES})
            await self._collect(messages, batch, deadline)

    async def _ask(self, request: dict[str, Any]) -> None:
        await self._nc.publish(self._nms, json.dumps(request).encode(), self._deliver)

    async def _collect(self, messages: list[Msg], wanted: int, deadline: float) -> None:
        """Take messages as they come until there are `wanted`, the broker says that it has no more, or time is up."""
        queue = self._sub._pending_queue  # noqa: SLF001 - nats-py has no public way to what lies in an inbox
        while len(messages) < wanted and (left := deadline - time.monotonic()) > 0:
            if queue.empty():
                if self._nc.is_closed:
                    raise ConnectionClosedError
                try:
                    async with asyncio.timeout(left):
                        first = await queue.get()
                except TimeoutError:
                    return
                # Put back in front: one place only knows what a message of the inbox means.
                queue._queue.appendleft(first)  # noqa: SLF001
            taken, ended = self._emptied(wanted - len(messages))
            messages += taken
            if ended:
                return

    def _emptied(self, most: int) -> tuple[list[Msg], bool]:
        """What lies in the inbox, up to `most` messages, and whether the broker said that there are no more."""
        queue, messages = self._sub._pending_queue, list[Msg]()  # noqa: SLF001
        while len(messages) < most and not queue.empty():
            message = queue.get_nowait()
            queue.task_done()
            self._sub._pending_size -= len(message.data)  # noqa: SLF001
            status = None if message.headers is None else self._js.is_status_msg(message)
            if status is None:
                messages.append(message)
            elif status in _NO_MORE:
                return messages, True
            elif status not in _INFORMATIVE:
                raise APIError.from_msg(message)
        return messages, False

    async def _guarded(self, fetching: Awaitable[list[Msg]], timeout: float | None, started: float) -> list[Msg]:
        try:
            messages: list[Msg] = await fetching
        except (ServiceUnavailableError, NotFoundError):
            self.trouble = f"consumer {self._consumer} of stream {self._stream} does not exist"
            await asyncio.sleep(_QUIET_SECONDS)
        except (ConnectionClosedError, ConnectionDrainingError, ConnectionReconnectingError):
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # On a closed connection nats-py turns a cancellation into this error: the task could never end.
                raise asyncio.CancelledError from None
            self.trouble = "connection closed"
            await asyncio.sleep(_QUIET_SECONDS)
        except TimeoutError:
            # A refusal (consumer deleted, too many waiting) comes back at once and as a time-out too.
            if timeout and time.monotonic() - started < timeout / 2:
                await asyncio.sleep(_HANDOVER_DELAY)
            else:
                self.trouble = None
        except (APIError, NatsError) as error:
            self.trouble = str(error)
            await asyncio.sleep(_QUIET_SECONDS)
        else:
            self.trouble = None
            return messages
        raise NatsTimeoutError


class GuardedJetStream(JetStreamContext):  # type: ignore[misc]
    """A JetStream context whose pull subscriptions bind to what exists, never create, and are guarded."""

    def __init__(self, conn: Any, **options: Any) -> None:
        super().__init__(conn, **options)
        self.violation: Callable[[str], PermissionDenied | None] = lambda _: None

    @property
    def pulls(self) -> dict[str, GuardedPull]:
        """The newest pull subscription of each durable; shared by all contexts of the connection."""
        pulls: dict[str, GuardedPull] = self._nc.pulls
        return pulls

    async def pull_subscribe(
        self,
        subject: str,
        durable: str | None = None,
        stream: str | None = None,
        config: Any = None,
        **options: Any,
    ) -> GuardedPull:
        """Bind to an existing durable; nats-py's own would create it with defaults where it is missing."""
        del subject, config
        if not durable or not stream:
            raise ValueError("a durable and its stream are needed: services never declare consumers")
        options.pop("inbox_prefix", None)
        return await self.pull_subscribe_bind(durable=durable, stream=stream, **options)

    async def pull_subscribe_bind(self, *args: Any, **options: Any) -> GuardedPull:
        """As nats-py's, guarded."""
        plain = await super().pull_subscribe_bind(*args, **options)
        guarded = GuardedPull(self, plain._sub, plain._stream, plain._consumer, plain._deliver.encode())  # noqa: SLF001
        self.pulls[plain._consumer] = guarded  # noqa: SLF001
        return guarded


async def hand_back(messages: list[Msg]) -> None:
    """Return messages unhandled; another replica gets them after a moment."""
    for message in messages:
        await message.nak(delay=_HANDOVER_DELAY)


async def acknowledge(client: Any, messages: list[Msg]) -> None:
    """Acknowledge messages in one write instead of one each; those that were acknowledged already are left out."""
    left = [message for message in messages if not message.is_acked]
    if not left:
        return
    if client.is_closed:
        raise ConnectionClosedError
    await client._send_command(b"".join(b"PUB %s 0\r\n\r\n" % message.reply.encode() for message in left))  # noqa: SLF001
    await client._flush_pending()  # noqa: SLF001 - nats-py has no public way to publish several messages at once
    for message in left:
        message._ackd = True  # noqa: SLF001
