"""An open-loop load: requests leave at their time whether the ones before came back or not."""

import asyncio
import gc
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.gateway.stack import KEY, TASK

MOST_OPEN = 512
"""A server so many requests behind is overloaded: what would come on top is not sent and counts as failed."""
_ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Latencies:
    """Of one load, in milliseconds; `failed` counts what was not answered well or not sent any more.

    `late` is how late the load generator itself was, p99: what is measured is not better known than that.
    """

    p50: float
    p99: float
    answered: int
    failed: int
    rate: float
    late: float


class Plain:
    """HTTP/1.1 by hand on kept connections: a client library would cost more than what is measured."""

    def __init__(self, port: int, path: str, model: str = TASK, key: str = KEY) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hello there"}], "max_tokens": 1})
        self._request = (
            f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n{body}"
        ).encode()

    async def ask(self) -> bool:
        """One request; whether it was answered with 200."""
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            good = await self._exchange(reader, writer)
        except BaseException:
            writer.close()
            raise
        self._idle.append((reader, writer))
        return good

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        if b"content-length" in fields:
            await reader.readexactly(int(fields[b"content-length"]))
        else:
            while size := int((await reader.readline()).strip() or b"0", 16):
                await reader.readexactly(size + 2)
            await reader.readline()
        return head.startswith(b"HTTP/1.1 200")

    def close(self) -> None:
        """Close what is open."""
        for _, writer in self._idle:
            writer.close()


async def run(ask: Callable[[], Awaitable[bool]], rate: float, seconds: float) -> Latencies:
    """`rate` requests a second; a request's time begins when it should have left, so that a late start counts."""
    times: list[float] = []
    late: list[float] = []
    failed = 0

    async def one(due: float) -> None:
        nonlocal failed
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                good = await ask()
        except (OSError, asyncio.IncompleteReadError):  # a TimeoutError is an OSError
            good = False
        if good:
            times.append(time.perf_counter() - due)
        else:
            failed += 1

    gc.collect()
    gc.disable()  # a pause of ours would look like one of theirs
    began = time.perf_counter()
    open_now: set[asyncio.Task[None]] = set()
    for number in range(int(rate * seconds)):
        due = began + number / rate
        ahead = due - time.perf_counter()
        if ahead > 0 or number % 50 == 0:
            await asyncio.sleep(max(0.0, ahead))
        if len(open_now) >= MOST_OPEN:
            failed += 1
            continue
        late.append(time.perf_counter() - due)
        task = asyncio.create_task(one(due))
        open_now.add(task)
        task.add_done_callback(open_now.discard)
    await asyncio.gather(*open_now)
    took = time.perf_counter() - began
    gc.enable()
    return Latencies(
        1000 * _quantile(times, 0.5), 1000 * _quantile(times, 0.99), len(times), failed, len(times) / took,
        1000 * _quantile(late, 0.99),
    )  # fmt: skip


def _quantile(values: list[float], share: float) -> float:
    held = sorted(values)
    return held[min(len(held) - 1, int(len(held) * share))] if held else float("inf")
