"""One answer from start to end: choose, call, retry, fall back, record, mirror."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, aclosing, contextmanager
from dataclasses import replace

from libs.contracts.errors import Busy, InvalidInput, PawlError, Unavailable
from libs.contracts.inference import Role
from libs.contracts.routes import Arm, EngineReport
from libs.contracts.subjects import version_name
from libs.telemetry import counter, current_traceparent, gauge, get_logger, histogram, kept, span
from services.serving.gateway.domain import (
    AUTO_MODEL,
    Caller,
    Chunk,
    Deadline,
    Embedded,
    EngineCall,
    Explanation,
    Generation,
    Ledger,
    Limits,
    Purpose,
    Query,
    Records,
    Resolution,
    Tables,
    ToolReader,
    assignment,
    choose,
    pick_engine,
    resolve,
    unit_of,
)
from services.serving.gateway.workflows.charging import Charging
from services.serving.gateway.workflows.embedding import Embedding
from services.serving.gateway.workflows.explaining import explanation
from services.serving.gateway.workflows.hedging import hedged
from services.serving.gateway.workflows.plan import NOT_ROUTABLE, Plan, nobody, passing
from services.serving.gateway.workflows.records import answered, canary_failure
from services.serving.gateway.workflows.shadows import Shadows

log = get_logger(__name__)

_WAITS = (0.05, 0.1, 0.2, 0.4, 0.8)


class Answering:
    """The gateway's one use case, for every door.

    `admission_wait`: seconds that a request waits for an engine before its first token. `max_in_flight` requests run
    at once. `shadow_in_flight` mirrored ones run beside them, after their answer and behind everything else, while at
    most `shadow_below` answers are under way: what is spare, and nothing of what users need. `hedge_after`: seconds
    without a first piece after which another engine is asked too; 0 never.
    """

    def __init__(
        self,
        *,
        tables: Tables,
        engines: EngineCall,
        records: Records,
        limits: Limits,
        admission_wait: float,
        max_in_flight: int,
        shadow_in_flight: int,
        shadow_below: int,
        hedge_after: float = 0.0,
        ledger: Ledger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tables = tables
        self._engines = engines
        self._records = records
        self._limits = limits
        self._admission_wait = admission_wait
        self._max_in_flight = max_in_flight
        self._clock = clock
        self._running = 0
        self._shadow_below = shadow_below
        self._hedge_after = hedge_after
        self._charging = Charging(ledger)
        self._shadows = Shadows(
            tables=tables,
            engines=engines,
            records=records,
            charging=self._charging,
            limit=shadow_in_flight,
            clock=clock,
        )
        self._embedding = Embedding(tables=tables, engines=engines, charging=self._charging, limits=limits, clock=clock)
        gauge("gateway_in_flight", "Answers under way.").set_function(lambda: self._running)
        self._refused = counter("gateway_refused", "Requests refused at the door, by reason.", ("reason",))
        answers = counter("gateway_answers", "Answers, by task, role and outcome.", ("task", "role", "outcome"))
        seconds = histogram("gateway_answer_seconds", "Time to the whole answer, in seconds.", ("task",))
        first = histogram("gateway_first_token_seconds", "Time to the first token, in seconds.", ("task",))
        self._answers, self._seconds, self._first = kept(answers), kept(seconds), kept(first)

    async def answer(
        self, caller: Caller, query: Query, deadline: Deadline
    ) -> AsyncGenerator[tuple[Generation, Chunk], None]:
        """Stream an answer. A lost engine is made up for until the first piece; after it the client sees the loss."""
        async with aclosing(self._pieces(caller, query, deadline, restart=False)) as pieces:
            async for generation, chunk in pieces:
                if chunk is not None:
                    yield generation, chunk

    async def whole(self, caller: Caller, query: Query, deadline: Deadline) -> tuple[Generation, Chunk]:
        """The whole answer as one chunk. An engine lost half-way is made up for: nothing was shown yet."""
        parts: dict[int, list[Chunk]] = {}
        latest: tuple[Generation, Chunk] | None = None
        async with aclosing(self._pieces(caller, query, deadline, restart=True)) as pieces:
            async for generation, chunk in pieces:
                if chunk is None:
                    parts.clear()
                    continue
                parts.setdefault(chunk.index, []).append(chunk)
                latest = (generation, chunk)
        if latest is None or 0 not in parts:
            raise Unavailable("the engine ended without an answer", reason="NO_ANSWER")
        if len(parts) == len(parts[0]) == 1:
            return latest
        first, *others = [_joined(parts[index]) for index in sorted(parts)]
        return latest[0], replace(first, usage=latest[1].usage, others=tuple(others))

    async def embed(
        self, caller: Caller, query: Query, texts: Sequence[str], deadline: Deadline
    ) -> tuple[Generation, Embedded]:
        """One vector for each text, and who made them; chosen, admitted and charged as an answer is."""
        resolution = self._resolve(caller, query)
        route = self._tables.route(caller.tenant, resolution.target.task)
        unit = unit_of(caller.tenant, query.user, query.request_id)
        choice = choose(route, resolution.target, unit, caller.roles, query.segment)
        with self._admitted(caller):
            arm, found = await self._embedding.embed(caller, route.task, choice, query, texts, deadline)
        version = version_name(route.task, arm.version)
        made = Generation(query.request_id, version, route.generation, arm.traceparent or "", resolution.rule)
        return made, found

    def explain(self, caller: Caller, query: Query) -> Explanation:
        """Which version the request would get, and why; nothing is generated."""
        resolution = self._resolve(caller, query)
        route = self._tables.route(caller.tenant, resolution.target.task)
        unit = unit_of(caller.tenant, query.user, query.request_id)
        choice = choose(route, resolution.target, unit, caller.roles, query.segment)
        return explanation(resolution, route, choice, assignment(route.salt, unit), query, self._tables.engines())

    async def stop(self) -> None:
        """Drop the shadows that are still running."""
        await self._shadows.stop()

    async def _pieces(
        self, caller: Caller, query: Query, deadline: Deadline, *, restart: bool
    ) -> AsyncGenerator[tuple[Generation, Chunk | None], None]:
        plan = self._plan(caller, query)
        with self._admitted(caller), span("gateway answer", links=_links(plan), task=plan.route.task):
            try:
                async with aclosing(self._relay(plan, deadline, restart=restart)) as relayed:
                    async for chunk in relayed:
                        yield plan.generation(), chunk
            except PawlError as failure:
                if not isinstance(failure, InvalidInput):
                    self._finish(plan, failure.reason)
                raise
            except (asyncio.CancelledError, GeneratorExit):
                self._finish(plan, None)
                raise
            self._finish(plan, None)

    def _resolve(self, caller: Caller, query: Query) -> Resolution:
        wants_any = query.model in ("", AUTO_MODEL)
        routes = [each for each in self._tables.routes(caller.tenant) if caller.may_ask(each.task)] if wants_any else ()
        resolution = resolve(query.model, query.segment, query.facts, self._tables.rules(caller.tenant), routes)
        caller.entitled(resolution.target.task)
        return resolution

    def _plan(self, caller: Caller, query: Query) -> Plan:
        query.check(self._limits)
        resolution = self._resolve(caller, query)
        route = self._tables.route(caller.tenant, resolution.target.task)
        unit = unit_of(caller.tenant, query.user, query.request_id)
        choice = choose(route, resolution.target, unit, caller.roles, query.segment)
        return Plan(
            query=query,
            caller=caller,
            route=route,
            choice=choice,
            rule=resolution.rule,
            unit=unit,
            messages=query.prepared(route),
            sampling=query.settled(route),
            form=query.shaped(route),
            began=self._clock(),
            arm=choice.arm,
        )

    @contextmanager
    def _admitted(self, caller: Caller) -> Iterator[None]:
        with self._place(caller):
            self._running += 1
            try:
                yield
            finally:
                self._running -= 1

    def _place(self, caller: Caller) -> AbstractContextManager[None]:
        try:
            if self._running >= self._max_in_flight:
                told = f"{self._running} requests are in flight already"
                raise Busy(told, reason="TOO_MANY_REQUESTS", retry_after=1)
            return self._charging.quotas.admit(caller, self._clock())
        except Busy as refusal:
            self._refused.labels(refusal.reason).inc()
            raise

    async def _relay(self, plan: Plan, deadline: Deadline, *, restart: bool) -> AsyncGenerator[Chunk | None, None]:
        """Chunks of one answer, None where it starts anew; arms are tried in order, on every engine that has them."""
        patience = Deadline(min(deadline.at, self._clock() + self._admission_wait))
        avoid: set[str] = set()
        trouble: PawlError | None = None
        waits = iter(_WAITS)
        while True:
            arm, engine = self._select(plan, avoid)
            if engine is None:
                left = patience.left(self._clock())
                if not left:
                    raise trouble or nobody(plan)
                await self._tables.wait_for_engines(min(next(waits, _WAITS[-1]), left))
                avoid.clear()
                continue
            plan.arm, plan.hourly_cost = arm, engine.hourly_cost
            began = False
            try:
                async with aclosing(self._heard(plan, arm, engine, deadline, avoid, whole=restart)) as chunks:
                    async for chunk in chunks:
                        began = True
                        plan.note(chunk, self._clock())
                        yield chunk
                if not plan.finished:
                    raise Unavailable("the engine ended without finishing", reason="NO_ANSWER")
                return
            except PawlError as failure:
                if not passing(failure) or (began and not restart) or not deadline.left(self._clock()):
                    raise
                log.warning("engine call failed", engine=engine.engine_id, digest=arm.digest, why=str(failure))
                trouble = failure
                avoid.add(engine.address)
                if arm.role is Role.CANARY:
                    plan.canary_trouble = failure.reason
                if began:
                    plan.forget()
                    yield None

    def _call(
        self, plan: Plan, arm: Arm, engine: EngineReport, deadline: Deadline, *, whole: bool
    ) -> AsyncGenerator[Chunk, None]:
        """Chunks of one engine's answer, calls of tools read out of them."""
        chunks = self._engines.infer(engine.address, plan.inquiry(arm, deadline.left(self._clock()), whole=whole))
        return _calls_read(chunks, plan) if plan.form.offers_tools else chunks

    def _heard(
        self, plan: Plan, arm: Arm, engine: EngineReport, deadline: Deadline, avoid: set[str], *, whole: bool
    ) -> AsyncGenerator[Chunk, None]:
        """One engine's answer, or another's where that was late to begin and hedging is on."""
        call = self._call(plan, arm, engine, deadline, whole=whole)
        if not self._hedge_after or plan.query.purpose is not Purpose.USE:
            return call

        def other() -> AsyncGenerator[Chunk, None] | None:
            # Never one that would have to load the version first: that is what takes long.
            able = [each for each in self._tables.engines() if arm.digest in each.routable]
            busy = self._engines.in_flight()
            chosen = pick_engine(able, arm.digest, in_flight=busy, avoid={*avoid, engine.address})
            return self._call(plan, arm, chosen, deadline, whole=whole) if chosen is not None else None

        return hedged(call, other, self._hedge_after)

    def _select(self, plan: Plan, avoid: set[str]) -> tuple[Arm, EngineReport | None]:
        choice = plan.choice
        for arm in (choice.arm, choice.fallback):
            if arm is None:
                continue
            engine = pick_engine(
                self._tables.engines(),
                arm.digest,
                in_flight=self._engines.in_flight(),
                avoid=avoid,
                affinity=plan.unit if plan.query.user else f"{plan.caller.tenant}/{plan.route.task}",
            )
            if engine is not None:
                if arm is choice.fallback and plan.canary_trouble is None:
                    plan.canary_trouble = NOT_ROUTABLE
                return arm, engine
        return choice.arm, None

    def _finish(self, plan: Plan, error: str | None) -> None:
        """Record what happened. An answer that the client broke off has neither error nor finish reason."""
        now = self._clock()
        outcome = "error" if error else ("answered" if plan.finished else "cancelled")
        self._answers(plan.route.task, plan.arm.role, outcome).inc()
        if plan.finished:
            self._seconds(plan.route.task).observe(now - plan.began)
        if plan.first_token is not None:
            self._first(plan.route.task).observe(plan.first_token - plan.began)
        self._charging.answer(plan, now)
        if plan.query.purpose is not Purpose.USE:
            return
        tenant, traceparent = plan.caller.tenant, current_traceparent()
        if plan.arm is plan.choice.fallback and plan.choice.arm.role is Role.CANARY:
            self._records.record(tenant, plan.route.task, canary_failure(plan), traceparent)
        self._records.record(tenant, plan.route.task, answered(plan, error, now), traceparent)
        if plan.finished and not error and not plan.choice.explicit and plan.arm.role is Role.STABLE:
            self._shadows.mirror(plan, traceparent, spare=self._running <= self._shadow_below)


async def _calls_read(chunks: AsyncGenerator[Chunk, None], plan: Plan) -> AsyncGenerator[Chunk, None]:
    readers: dict[int, ToolReader] = {}
    async with aclosing(chunks):
        async for chunk in chunks:
            reader = readers.get(chunk.index)
            if reader is None:
                reader = readers[chunk.index] = ToolReader(plan.form, f"{plan.query.request_id}.{chunk.index}")
            text, calls, finish = reader.feed(chunk.text, chunk.finish_reason)
            if text or finish or chunk.logprobs:
                yield replace(chunk, text=text, tool_calls=calls, finish_reason=finish)


def _joined(parts: list[Chunk]) -> Chunk:
    last = parts[-1]
    return replace(
        last,
        text="".join(each.text for each in parts),
        tool_calls=tuple(call for each in parts for call in each.tool_calls),
        logprobs=tuple(held for each in parts for held in each.logprobs),
    )


def _links(plan: Plan) -> list[str]:
    return [plan.arm.traceparent] if plan.arm.traceparent else []
