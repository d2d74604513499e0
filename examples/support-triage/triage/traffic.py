"""Live traffic: users ask the gateway, read the answer, and say what they think of it, as production would."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import grpc
import httpx
import nats
from nats.js import JetStreamContext

from libs.contracts.answers import same_answer
from libs.contracts.stubs.pawl.serving.v1 import inference_pb2, inference_pb2_grpc
from pawl.client import Connection
from triage.tickets import Ticket

PRAISE = 0.5
"""Share of right answers that get a thumb up."""
CORRECTED = 0.8
"""Share of wrong answers that their reader corrects."""
DEADLINE_SECONDS = 60.0


@dataclass(slots=True)
class Answer:
    """What a user got."""

    ticket: Ticket
    user: str
    request_id: str
    text: str
    version: str
    right: bool


@dataclass(slots=True)
class Tally:
    """Counts of what happened, in all and per model version."""

    requests: int = 0
    failed: int = 0
    retried: int = 0
    """Attempts that found the gateway away and were made again, as every client library does."""
    right: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    users: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    by_http: int = 0


class Traffic:
    """Users of one task. `rate` (requests per second) may be changed while it runs; every user is a new one."""

    def __init__(
        self,
        connection: Connection,
        task: str,
        draw: Callable[[random.Random], Ticket],
        *,
        seed: int,
        source: str = "portal",
        http_share: float = 0.1,
        workers: int = 24,
    ) -> None:
        self.rate = 2.0
        self.draw = draw
        self.tally = Tally()
        self._connection = connection
        self._task = task
        self._source = source
        self._http_share = http_share
        self._workers = asyncio.Semaphore(workers)
        self._rng = random.Random(seed)
        self._headers = {"authorization": f"Bearer {connection.api_key}"}
        self._numbers = 0
        self._pending: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(
            self._connection.address("grpc"), options=[("grpc.enable_http_proxy", 0)]
        )
        self._stub = inference_pb2_grpc.InferenceServiceStub(self._channel)
        self._http = httpx.AsyncClient(
            base_url=self._connection.address("http"), headers=self._headers, timeout=DEADLINE_SECONDS, trust_env=False
        )
        self._nats = await nats.connect(
            self._connection.address("nats"), max_reconnect_attempts=-1, reconnect_time_wait=0.5
        )
        self._js: JetStreamContext = self._nats.jetstream()
        self._loop = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._loop.cancel()
        await asyncio.gather(self._loop, return_exceptions=True)
        await self.settle()
        await self._http.aclose()
        await self._channel.close()
        await self._nats.close()

    async def settle(self) -> None:
        """Wait until every answer and every word about it is in."""
        while self._pending:
            await asyncio.wait(self._pending)

    def check(self) -> None:
        """Raise what ended the traffic, if anything did."""
        if self._loop.done() and not self._loop.cancelled() and (failure := self._loop.exception()):
            raise failure

    async def ask(self, ticket: Ticket, user: str) -> Answer | None:
        """One user's question; None when it failed, which is counted."""
        self.tally.requests += 1
        self.tally.users.add(user)
        request_id = f"{self._source}-{user}-{ticket.id}"
        by_http, deadline = self._rng.random() < self._http_share, time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                if by_http:
                    text, version, request_id = await self._by_http(ticket, user, request_id)
                else:
                    text, version = await self._by_grpc(ticket, user, request_id)
                break
            except (grpc.aio.AioRpcError, httpx.HTTPError) as error:
                if away(error) and time.monotonic() < deadline:
                    self.tally.retried += 1
                    await asyncio.sleep(0.5)
                    continue
                self.tally.failed += 1
                told = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
                self.tally.errors = [*self.tally.errors[-19:], f"{type(error).__name__}: {told}"]
                return None
        right = same_answer(text, ticket.answer)
        self.tally.asked[version] += 1
        self.tally.right[version] += right
        return Answer(ticket, user, request_id, text, version, right)

    async def correct(self, answer: Answer, *, source: str, trace: str = "") -> None:
        """Publish a correction of an answer, with the ticket's phrasing as its group, over plain NATS."""
        await self.publish(
            {
                "id": f"c-{answer.request_id}",
                "source": source,
                "kind": "correction",
                "request_id": answer.request_id,
                "input": answer.ticket.text,
                "output": answer.text,
                "correction": answer.ticket.answer,
                "category": answer.ticket.category,
                "group": answer.ticket.form,
                "user": answer.user,
            },
            trace,
        )

    async def publish(self, event: dict[str, object], trace: str = "") -> None:
        """One feedback event as an upstream system sends it, repeated until the broker has it."""
        subject, headers = f"feedback.default.{self._task}", {"traceparent": trace} if trace else None
        while True:
            try:
                await self._js.publish(subject, json.dumps(event).encode(), timeout=5, headers=headers)
            except (nats.errors.Error, TimeoutError):
                await asyncio.sleep(0.5)  # the id makes the repetition harmless
            else:
                return

    async def _run(self) -> None:
        due = time.monotonic()
        while True:
            due = max(due + 1.0 / max(self.rate, 0.01), time.monotonic() - 1.0)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if self.rate <= 0:
                continue
            await self._workers.acquire()
            self._numbers += 1
            ticket = self.draw(self._rng)
            job = asyncio.create_task(self._user(ticket, f"{ticket.user}-{self._numbers}"))
            self._pending.add(job)
            job.add_done_callback(self._over)

    def _over(self, job: asyncio.Task[None]) -> None:
        self._pending.discard(job)
        if not job.cancelled() and (error := job.exception()) is not None:
            self.tally.failed += 1
            self.tally.errors = [*self.tally.errors[-19:], repr(error)]

    async def _user(self, ticket: Ticket, user: str) -> None:
        try:
            answer = await self.ask(ticket, user)
        finally:
            self._workers.release()
        if answer is None:
            return
        if answer.right and self._rng.random() < PRAISE:
            await self.publish(
                {
                    "id": f"p-{answer.request_id}",
                    "source": self._source,
                    "kind": "rating",
                    "rating": 1,
                    "request_id": answer.request_id,
                    "user": user,
                }
            )
        elif not answer.right and self._rng.random() < CORRECTED:
            await self.correct(answer, source=self._source)

    async def _by_grpc(self, ticket: Ticket, user: str, request_id: str) -> tuple[str, str]:
        request = inference_pb2.GenerateRequest(
            model=self._task,
            messages=[inference_pb2.Message(role="user", content=ticket.text)],
            user=user,
            segment=ticket.segment,
            request_id=request_id,
        )
        answer = await self._stub.Generate(request, timeout=DEADLINE_SECONDS, metadata=tuple(self._headers.items()))
        return answer.text, answer.provenance.model_version

    async def _by_http(self, ticket: Ticket, user: str, request_id: str) -> tuple[str, str, str]:
        body = {"model": self._task, "messages": [{"role": "user", "content": ticket.text}], "user": user}
        response = await self._http.post("/chat/completions", json=body, headers={"x-pawl-request-id": request_id})
        response.raise_for_status()
        self.tally.by_http += 1
        document = response.json()
        return document["choices"][0]["message"]["content"], document["model"], response.headers["x-pawl-request-id"]


def away(error: Exception) -> bool:
    """Whether nobody answered, so that asking again is what a client does."""
    if isinstance(error, grpc.aio.AioRpcError):
        return error.code() is grpc.StatusCode.UNAVAILABLE
    return isinstance(error, httpx.TransportError) or (
        isinstance(error, httpx.HTTPStatusError) and error.response.status_code == httpx.codes.SERVICE_UNAVAILABLE
    )
