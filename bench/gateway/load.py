"""An open-loop load: requests leave at their time whether the ones before came back or not."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.gateway.stack import KEY, TASK


@dataclass(frozen=True)
class Latencies:
    """Of one load, in milliseconds; `failed` counts what was not answered well."""

    p50: float
    p99: float
    answered: int
    failed: int
    rate: float


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
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        if b"content-length" in fields:
            await reader.readexactly(int(fields[b"content-length"]))
        else:
            while size := int((await reader.readline()).strip() or b"0", 16):
                await reader.readexactly(size + 2)
            await reader.readline()
        self._idle.append((reader, writer))
        return head.startswith(b"HTTP/1.1 200")

    def close(self) -> None:
        """Close what is open."""
        for _, writer in self._idle:
            writer.close()


async def run(ask: Callable[[], Awaitable[bool]], rate: float, seconds: float) -> Latencies:
    """`rate` requests a second; a request's time begins when it should have left, so that a late start counts."""
    times: list[float] = []
    failed = 0

    async def one(due: float) -> None:
        nonlocal failed
        try:
            if not await ask():
                failed += 1
                return
        except (OSError, asyncio.IncompleteReadError):
            failed += 1
            return
        times.append(time.perf_counter() - due)

    began = time.perf_counter()
    tasks = []
    for number in range(int(rate * seconds)):
        due = began + number / rate
        ahead = due - time.perf_counter()
        if ahead > 0:
            await asyncio.sleep(ahead)
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.gather(*tasks)
    took = time.perf_counter() - began
    times.sort()
    if not times:
        return Latencies(float("inf"), float("inf"), 0, failed, 0.0)
    return Latencies(
        1000 * times[len(times) // 2], 1000 * times[int(len(times) * 0.99)], len(times), failed, len(times) / took
    )  # fmt: skip
