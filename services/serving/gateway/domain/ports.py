"""What the gateway's parts need of one another."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from libs.contracts.inference import Inference, Message
from libs.contracts.routes import EngineReport, Route
from libs.contracts.task.routing import RoutingRule
from services.serving.gateway.domain.calls import Caller, Chunk, Deadline, Embedded, Generation, Query, SamplingWish
from services.serving.gateway.domain.form import FREE, Form
from services.serving.gateway.domain.routing import Choice
from services.serving.gateway.domain.rules import Resolution


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One call of one engine; `timeout` in seconds, `whole` asks for the answer in one piece."""

    request_id: str
    messages: tuple[Message, ...]
    sampling: SamplingWish
    digest: str
    priority: int
    timeout: float
    whole: bool = False
    form: Form = FREE
    prompt: str = ""
    cache_salt: str = ""
    """Prompts of different salts share no cached prefix: what one tenant asked is not to be timed by another."""


@dataclass(frozen=True, slots=True)
class TextBatch:
    """One call for vectors; `timeout` in seconds."""

    request_id: str
    texts: tuple[str, ...]
    digest: str
    priority: int
    timeout: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which version a request would get, and why."""

    resolution: Resolution
    route: Route
    choice: Choice
    assignment: float
    canary_share: float
    engines: tuple[str, ...]
    reason: str


class EngineCall(Protocol):
    """Engines by address."""

    def infer(self, address: str, inquiry: Inquiry) -> AsyncGenerator[Chunk, None]:
        """Pieces of an answer; closing the iterator aborts it. Raises PawlError."""

    async def embed(self, address: str, wanted: TextBatch) -> Embedded:
        """One vector for each text. Raises PawlError."""

    def in_flight(self) -> dict[str, int]:
        """Calls running now, by address."""


class Tables(Protocol):
    """Routes, engines and keys as they are known now."""

    def route(self, tenant: str, task: str) -> Route:
        """The route of a task; NotFound."""

    def routes(self, tenant: str) -> list[Route]:
        """All routes of a tenant."""

    def every_route(self) -> list[Route]:
        """The routes of all tenants."""

    def rules(self, tenant: str) -> Sequence[RoutingRule]:
        """The operator's rules for a tenant, in order."""

    def engines(self) -> Sequence[EngineReport]:
        """All engines."""

    def caller(self, authorization: str) -> Caller:
        """The caller behind an `Authorization` value; Unauthenticated."""

    async def wait_for_engines(self, seconds: float) -> None:
        """Return when the engines' reports or the routes change, or after so many seconds."""


class Records(Protocol):
    """The inference log."""

    def record(self, tenant: str, task: str, inference: Inference, traceparent: str | None) -> None:
        """Take a record; never waits and never fails."""


class Answers(Protocol):
    """What the gateway is for."""

    def answer(
        self, caller: Caller, query: Query, deadline: Deadline
    ) -> AsyncGenerator[tuple[Generation, Chunk], None]:
        """Stream an answer; each piece comes with who made it."""

    async def whole(self, caller: Caller, query: Query, deadline: Deadline) -> tuple[Generation, Chunk]:
        """The whole answer as one chunk; an engine lost half-way is made up for."""

    async def embed(
        self, caller: Caller, query: Query, texts: Sequence[str], deadline: Deadline
    ) -> tuple[Generation, Embedded]:
        """One vector for each text, and who made them."""

    def explain(self, caller: Caller, query: Query) -> Explanation:
        """Which version the request would get, and why; nothing is generated."""


class FeedbackDoor(Protocol):
    """Feedback on its way to the stream."""

    async def publish(self, caller: Caller, task: str, documents: Sequence[bytes], base_field: str) -> list[int]:
        """Publish documents and return their stream sequences, once all are stored."""
