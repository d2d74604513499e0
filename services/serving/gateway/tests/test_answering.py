"""What becomes of a request when engines fail: engines that fail on cue, since real ones do not."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime

import pytest

from libs.contracts.errors import Busy, InvalidInput, PawlError, Unavailable
from libs.contracts.inference import Inference, Message, Provenance, Role
from libs.contracts.routes import Arm, EngineReport, KeyRole, Route
from libs.contracts.task.routing import RoutingRule
from libs.testing.wait import eventually
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
    Usage,
    unit_of,
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

    async def embed(self, address: str, digest: str, texts: Sequence[str], timeout: float) -> Embedded:
        return Embedded(tuple((float(len(text)), 0.5) for text in texts), 7)


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


async def test_an_answer_is_recorded_with_everything_that_a_decision_needs() -> None:
    rig = Rig(STABLE)
    rig.engine("a", says("hel", "lo"), "d1")
    generation, chunk = await rig.whole(query(user="ann"))
    assert (generation.version, chunk.text, chunk.usage) == ("t@1", "hello", Usage(3, 2))
    (record,) = rig.log.records
    assert (record.request_id, record.generation, record.version, record.role) == ("r", 7, 1, Role.STABLE)
    assert (record.unit, record.assignment_probability) == (unit_of("default", "ann", "r"), 1.0)
    assert (record.output, record.error, record.provenance.adapter_digest) == ("hello", None, "d1")


async def test_an_engine_that_fails_before_the_first_token_is_made_up_for_by_another() -> None:
    rig = Rig(STABLE)
    rig.engine("a", fails(AWAY), "d1")
    rig.engine("b", says("ok"), "d1")
    texts = [chunk.text async for _, chunk in rig.stream(query())]
    assert texts == ["ok"]
    assert [record.error for record in rig.log.records] == [None]


async def test_an_engine_that_comes_back_in_time_is_waited_for() -> None:
    rig = Rig(STABLE)
    rig.engine("a", lambda _: ("back",) if rig.tables.waits > 3 else (AWAY,), "d1")
    assert (await rig.whole(query()))[1].text == "back"


async def test_nobody_is_waited_for_longer_than_the_admission_time() -> None:
    rig = Rig(STABLE, wait=0.0)
    with pytest.raises(Unavailable) as refused:
        await rig.whole(query())
    assert refused.value.reason == "NO_ENGINE"
    assert rig.log.records[0].error == "NO_ENGINE"


async def test_a_whole_answer_survives_an_engine_lost_half_way() -> None:
    rig = Rig(STABLE)
    rig.engine("a", fails(AWAY, "half"), "d1")
    rig.engine("b", says("whole"), "d1")
    assert (await rig.whole(query()))[1].text == "whole"
    assert rig.log.records[0].output == "whole"


async def test_a_stream_that_has_begun_does_not_begin_again() -> None:
    rig = Rig(STABLE)
    rig.engine("a", fails(AWAY, "half"), "d1")
    rig.engine("b", says("whole"), "d1")
    with pytest.raises(Unavailable):
        _ = [piece async for piece in rig.stream(query())]
    assert [address for address, _ in rig.engines.calls] == ["a"]
    assert (rig.log.records[0].output, rig.log.records[0].error) == ("half", "UNAVAILABLE")


async def test_the_callers_mistake_is_not_tried_elsewhere_and_not_held_against_the_version() -> None:
    rig = Rig(STABLE)
    rig.engine("a", fails(InvalidInput("too long", field="messages")), "d1")
    rig.engine("b", says("ok"), "d1")
    with pytest.raises(InvalidInput):
        await rig.whole(query())
    assert len(rig.engines.calls) == 1
    assert rig.log.records == []


async def test_a_canary_that_cannot_answer_is_stood_in_for_and_blamed() -> None:
    rig = Rig(arm(1, Role.STABLE, 0.0), arm(2, Role.CANARY, 1.0))
    rig.engine("a", lambda inquiry: (AWAY,) if inquiry.digest == "d2" else ("stand-in",), "d1", "d2")
    rig.engine("b", says("stand-in"), "d1")
    generation, chunk = await rig.whole(query())
    assert (generation.version, chunk.text) == ("t@1", "stand-in")
    canary, stable = rig.log.records
    assert (canary.role, canary.version, canary.error, canary.pair_id) == (Role.CANARY, 2, "UNAVAILABLE", "r")
    assert (stable.role, stable.request_id, stable.output) == (Role.STABLE, "r", "stand-in")
    assert stable.explicit, "a stand-in was not assigned by chance"


async def test_a_canary_on_no_engine_is_stood_in_for_at_once() -> None:
    rig = Rig(arm(1, Role.STABLE, 0.0), arm(2, Role.CANARY, 1.0))
    rig.engine("a", says("stand-in"), "d1")
    await rig.whole(query())
    assert rig.tables.waits == 0
    assert rig.log.records[0].error == "VERSION_NOT_ROUTABLE"


async def test_a_stream_ends_on_the_version_it_began_with_when_the_route_flips() -> None:
    rig = Rig(STABLE)
    rig.engine("a", says("one ", "two ", "three"), "d1", "d2")
    stream = rig.stream(query())
    first = await anext(stream)
    rig.tables.current = rig.tables.current.model_copy(update={"arms": (arm(2, Role.STABLE, 1.0),), "generation": 8})
    rest = [piece async for piece in stream]
    assert {generation.version for generation, _ in (first, *rest)} == {"t@1"}
    assert (rig.log.records[0].version, rig.log.records[0].generation) == (1, 7)


async def test_a_shadow_mirrors_the_stable_answer_after_it_and_behind_it() -> None:
    rig = Rig(STABLE, arm(2, Role.SHADOW), shadow_rate=1.0)
    rig.engine("a", lambda inquiry: (f"by {inquiry.digest}",), "d1", "d2")
    assert (await rig.whole(query()))[1].text == "by d1"
    await eventually(lambda: len(rig.log.records) == 2)
    shadow = rig.log.records[1]
    assert (shadow.role, shadow.version, shadow.pair_id, shadow.output) == (Role.SHADOW, 2, "r", "by d2")
    assert shadow.request_id != "r"
    priorities = [inquiry.priority for _, inquiry in rig.engines.calls]
    assert priorities[0] < priorities[1]


async def test_shadows_beyond_their_number_are_dropped() -> None:
    rig = Rig(STABLE, arm(2, Role.SHADOW), shadow_rate=1.0, shadows=0)
    rig.engine("a", says("x"), "d1", "d2")
    await rig.whole(query())
    await asyncio.sleep(0)
    assert len(rig.engines.calls) == 1


async def test_nothing_is_mirrored_while_users_need_the_engine() -> None:
    rig = Rig(STABLE, arm(2, Role.SHADOW), shadow_rate=1.0, busy=0)
    rig.engine("a", says("x"), "d1", "d2")
    await rig.whole(query())
    await asyncio.sleep(0)
    assert len(rig.engines.calls) == 1


async def test_what_an_answer_and_its_shadow_used_is_on_the_tenants_bill() -> None:
    rig = Rig(STABLE, arm(2, Role.SHADOW), shadow_rate=1.0)
    rig.engine("a", says("one", "two"), "d1", "d2")
    rig.tables.reports[0] = rig.tables.reports[0].model_copy(update={"hourly_cost": 3600.0})
    await rig.whole(query())
    await eventually(lambda: len(rig.ledger.held) == 2)
    told = {(key.tenant, key.task, key.version, key.purpose): use for key, use in rig.ledger.held.items()}
    for version, purpose in ((1, "use"), (2, "shadow")):
        use = told["default", "t", version, purpose]
        assert (use.answers, use.prompt_tokens, use.completion_tokens) == (1, 3, 2)
        assert (use.engine_seconds, use.cost) == (1.5, 1.5)


async def test_an_answer_broken_off_is_not_free() -> None:
    rig = Rig(STABLE)
    rig.engine("a", says("x" * 40, "two"), "d1")
    stream = rig.stream(query())
    await anext(stream)
    await stream.aclose()
    (use,) = rig.ledger.held.values()
    assert (use.answers, use.completion_tokens, use.engine_seconds) == (1, 10, 1.5)


async def test_a_version_in_nobodys_memory_is_asked_of_an_engine_that_can_load_it() -> None:
    rig = Rig(STABLE)
    rig.engine("loads", says("loaded"), "other")
    rig.tables.reports[0] = rig.tables.reports[0].model_copy(update={"cold": ("d1",)})
    assert (await rig.whole(query()))[1].text == "loaded"
    rig.engine("holds", says("held"), "d1")
    assert (await rig.whole(query()))[1].text == "held"


class Late(Engines):
    """Addresses in `silent` say nothing until told; `closed` are those that were hung up on."""

    def __init__(self) -> None:
        super().__init__()
        self.silent: dict[str, asyncio.Event] = {}
        self.closed: list[str] = []

    async def infer(self, address: str, inquiry: Inquiry) -> AsyncGenerator[Chunk, None]:
        try:
            if address in self.silent:
                await self.silent[address].wait()
            async for chunk in super().infer(address, inquiry):
                yield chunk
        except (asyncio.CancelledError, GeneratorExit):
            self.closed.append(address)
            raise


def late_rig(hedge_after: float) -> tuple[Rig, Late]:
    rig, engines = Rig(STABLE), Late()
    rig.engines = engines
    rig.answering = Answering(
        tables=rig.tables, engines=engines, records=rig.log, limits=Limits(), admission_wait=5.0, max_in_flight=2,
        shadow_in_flight=0, shadow_below=0, hedge_after=hedge_after, ledger=rig.ledger,
    )  # fmt: skip
    for address in "ab":
        rig.engine(address, says(f"by {address}"), "d1")
    return rig, engines


async def test_by_default_nobody_is_asked_twice() -> None:
    rig, engines = late_rig(0.0)
    engines.silent["a"] = asyncio.Event()
    asked = asyncio.create_task(rig.whole(query()))
    await asyncio.sleep(0.05)
    engines.silent["a"].set()
    assert (await asked)[1].text == "by a"
    assert [address for address, _ in engines.calls] == ["a"]


async def test_an_answer_late_to_begin_is_asked_of_another_engine_where_that_is_wanted() -> None:
    rig, engines = late_rig(0.01)
    engines.silent["a"] = asyncio.Event()
    text = (await rig.whole(query()))[1].text
    assert text == "by b"
    assert engines.closed == ["a"]
    assert [record.output for record in rig.log.records] == ["by b"], "one answer, one record"
    assert sum(use.answers for use in rig.ledger.held.values()) == 1


async def test_where_the_first_engine_fails_meanwhile_the_second_is_heard() -> None:
    rig, engines = late_rig(0.01)
    engines.scripts["a"] = fails(AWAY)
    engines.silent = {"a": asyncio.Event(), "b": asyncio.Event()}
    events = dict(engines.silent)
    asked = asyncio.create_task(rig.whole(query()))
    await asyncio.sleep(0.05)
    events["a"].set()
    await asyncio.sleep(0.01)
    events["b"].set()
    assert (await asked)[1].text == "by b"


async def test_an_evaluation_yields_to_users_and_is_not_in_the_log() -> None:
    rig = Rig(STABLE, arm(2, Role.CANDIDATE), shadow_rate=1.0)
    rig.engine("a", says("x"), "d1", "d2")
    await rig.whole(query(model="t@2", purpose=Purpose.EVALUATION), EVALUATOR)
    assert rig.log.records == []
    assert rig.engines.calls[0][1].priority > 0


async def test_one_request_too_many_is_refused_as_busy() -> None:
    rig = Rig(STABLE)
    rig.engine("a", says("x"), "d1")
    rig.engines.hold.clear()
    running = [asyncio.create_task(rig.whole(query(request_id=f"r{n}"))) for n in range(2)]
    await eventually(lambda: len(rig.engines.calls) == 2)
    with pytest.raises(Busy):
        await rig.whole(query())
    rig.engines.hold.set()
    await asyncio.gather(*running)


async def test_an_answer_that_the_client_broke_off_is_recorded_without_blame() -> None:
    rig = Rig(STABLE)
    rig.engine("a", says("one", "two"), "d1")
    stream = rig.stream(query())
    await anext(stream)
    await stream.aclose()
    (record,) = rig.log.records
    assert (record.output, record.error, record.finish_reason) == ("one", None, "")
