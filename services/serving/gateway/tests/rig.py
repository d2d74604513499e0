"""The gateway's use case before engines that fail on cue, since real ones do not."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime

from libs.contracts.errors import PawlError, Unavailable
from libs.contracts.inference import Inference, Message, Provenance, Role
from libs.contracts.routes import Arm, EngineReport, KeyRole, Route
from libs.contracts.task.routing import RoutingRule
from services.serving.gateway.domain import (
    Caller,
    Chunk,
    Deadline,
    Embedded,
    Generation,
    Inquiry,
    Ledger,
    Limits,
    Purpose,
    Query,
    SamplingWish,
    TextBatch,
    Usage,
)
from services.serving.gateway.workflows import Answering

CLIENT = Caller("c", "default", frozenset({KeyRole.CLIENT}))
EVALUATOR = Caller("e", "default", frozenset({KeyRole.EVALUATOR}))
Script = Callable[[Inquiry], Sequence[str | PawlError]]


class Engines:
    """Each address answers by its script: texts are streamed, an error is raised where it stands."""

    def __init__(self) -> None:
        self.scripts: dict[str, Script] = {}
        self.calls: list[tuple[str, Inquiry]] = []
        self.hold = asyncio.Event()
        self.hold.set()

    def in_flight(self) -> dict[str, int]:
        return {}

    async def infer(self, address: str, inquiry: Inquiry) -> AsyncGenerator[Chunk, None]:
        self.calls.append((address, inquiry))
        steps = self.scripts[address](inquiry)
        for number, step in enumerate(steps):
            await self.hold.wait()
            if isinstance(step, PawlError):
                raise step
            last = number == len(steps) - 1
            made_by = Provenance(base_digest="base", adapter_digest=inquiry.digest)
            usage = Usage(3, len(steps)) if last else None
            yield Chunk(step, made_by, "stop" if last else "", usage, engine_seconds=1.5)

    async def embed(self, address: str, wanted: TextBatch) -> Embedded:
        steps = self.scripts[address](Inquiry(wanted.request_id, (), SamplingWish(), wanted.digest, 0, wanted.timeout))
        for step in steps:
            if isinstance(step, PawlError):
                raise step
        made_by = Provenance(base_digest="base", adapter_digest=wanted.digest)
        return Embedded(tuple((float(len(text)), 0.5) for text in wanted.texts), made_by, 7, 0.25)


class Tables:
    def __init__(self, route: Route) -> None:
        self.current = route
        self.operator: list[RoutingRule] = []
        self.reports: list[EngineReport] = []
        self.waits = 0
        self.on_wait: Callable[[], None] = lambda: None

    def route(self, tenant: str, task: str) -> Route:
        return self.current

    def routes(self, tenant: str) -> list[Route]:
        return [self.current]

    def every_route(self) -> list[Route]:
        return [self.current]

    def rules(self, tenant: str) -> list[RoutingRule]:
        return self.operator

    def engines(self) -> Sequence[EngineReport]:
        return self.reports

    def caller(self, authorization: str) -> Caller:
        return CLIENT

    async def wait_for_engines(self, seconds: float) -> None:
        self.waits += 1
        self.on_wait()
        await asyncio.sleep(0)

    def add(self, address: str, *digests: str) -> None:
        now = datetime.now(UTC)
        self.reports.append(
            EngineReport(
                engine_id=address, address=address, base_digest="base", routable=digests, started_at=now, beat_at=now
            )
        )


class Log:
    def __init__(self) -> None:
        self.records: list[Inference] = []

    def record(self, tenant: str, task: str, inference: Inference, traceparent: str | None) -> None:
        self.records.append(inference)


class Rig:
    def __init__(
        self, *arms: Arm, shadow_rate: float = 0.0, wait: float = 30.0, shadows: int = 2, busy: int = 9
    ) -> None:
        self.engines, self.log, self.ledger = Engines(), Log(), Ledger()
        self.tables = Tables(
            Route(tenant="default", task="t", generation=7, salt="s", arms=arms, shadow_rate=shadow_rate)
        )
        self.answering = Answering(
            tables=self.tables,
            engines=self.engines,
            records=self.log,
            limits=Limits(),
            admission_wait=wait,
            max_in_flight=2,
            shadow_in_flight=shadows,
            shadow_below=busy,
            ledger=self.ledger,
        )

    def engine(self, address: str, script: Script, *digests: str) -> None:
        self.engines.scripts[address] = script
        self.tables.add(address, *digests)

    async def whole(self, query: Query, caller: Caller = CLIENT) -> tuple[Generation, Chunk]:
        return await self.answering.whole(caller, query, Deadline(time.monotonic() + 60))

    def stream(self, query: Query) -> AsyncGenerator[tuple[Generation, Chunk], None]:
        return self.answering.answer(CLIENT, query, Deadline(time.monotonic() + 60))


def arm(version: int, role: Role, share: float = 0.0) -> Arm:
    return Arm(
        version=version, role=role, share=share, digest=f"d{version}", base_digest="base", adapter_digest=f"d{version}"
    )


def query(user: str = "", model: str = "t", request_id: str = "r", purpose: Purpose = Purpose.USE) -> Query:
    return Query(model, (Message(role="user", content="hi"),), request_id, user=user, purpose=purpose)


def says(*texts: str) -> Script:
    return lambda _: texts


def fails(error: PawlError, *before: str) -> Script:
    return lambda _: (*before, error)


STABLE = arm(1, Role.STABLE, 1.0)
AWAY = Unavailable("gone")
