"""One answer from start to end: choose, call, retry, fall back, record, mirror."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from libs.contracts.errors import Busy, InvalidInput, PawlError, Transient, Unavailable
from libs.contracts.inference import Inference, Message, Provenance, Role
from libs.contracts.routes import Arm, EngineReport, Route
from libs.contracts.subjects import version_name
from libs.telemetry import counter, current_traceparent, gauge, get_logger, histogram, span
from services.serving.gateway.domain import (
    Caller,
    Choice,
    Chunk,
    Deadline,
    EngineCall,
    Generation,
    Inquiry,
    Limits,
    Purpose,
    Query,
    Records,
    SamplingWish,
    Tables,
    choose,
    parse_model,
    pick_engine,
    sampled_for_shadow,
    unit_of,
)

log = get_logger(__name__)

_NOT_ROUTABLE = "VERSION_NOT_ROUTABLE"
_WAITS = (0.05, 0.1, 0.2, 0.4, 0.8)
_SHADOW_SECONDS = 60.0


@dataclass(slots=True)
class _Plan:
    """A request with everything decided that its route and caller decide."""

    query: Query
    tenant: str
    route: Route
    choice: Choice
    unit: str
    messages: tuple[Message, ...]
    sampling: SamplingWish
    began: float
    arm: Arm
    canary_trouble: str | None = None
    first_token: float | None = None
    text: list[str] = field(default_factory=list)
    last: Chunk | None = None

    def generation(self) -> Generation:
        return Generation(
            self.query.request_id,
            version_name(self.route.task, self.arm.version),
            self.route.generation,
            self.arm.traceparent or "",
        )

    def inquiry(self, arm: Arm, timeout: float, *, whole: bool) -> Inquiry:
        return Inquiry(
            self.query.request_id, self.messages, self.sampling, arm.digest, self.query.purpose.priority, timeout, whole
        )


class Answering:
    """The gateway's one use case, for every door.

    `admission_wait`: seconds that a request waits for an engine before its first token. `max_in_flight` requests run
    at once. `shadow_in_flight` mirrored ones run beside them, after their answer and behind everything else.
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tables = tables
        self._engines = engines
        self._records = records
        self._limits = limits
        self._admission_wait = admission_wait
        self._max_in_flight = max_in_flight
        self._shadow_in_flight = shadow_in_flight
        self._clock = clock
        self._running = 0
        self._shadows: set[asyncio.Task[None]] = set()
        self._gauge = gauge("gateway_in_flight", "Answers under way.")
        self._answers = counter("gateway_answers", "Answers, by task, role and outcome.", ("task", "role", "outcome"))
        self._seconds = histogram("gateway_answer_seconds", "Time to the whole answer, in seconds.", ("task",))
        self._first = histogram("gateway_first_token_seconds", "Time to the first token, in seconds.", ("task",))
        self._mirrored = counter("gateway_shadows", "Mirrored requests, by what became of them.", ("fate",))

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
        texts: list[str] = []
        latest: tuple[Generation, Chunk] | None = None
        async with aclosing(self._pieces(caller, query, deadline, restart=True)) as pieces:
            async for generation, chunk in pieces:
                if chunk is None:
                    texts.clear()
                    continue
                texts.append(chunk.text)
                latest = (generation, chunk)
        if latest is None:
            raise Unavailable("the engine ended without an answer", reason="NO_ANSWER")
        generation, last = latest
        return generation, Chunk("".join(texts), last.provenance, last.finish_reason, last.usage)

    async def stop(self) -> None:
        """Drop the shadows that are still running."""
        for task in list(self._shadows):
            task.cancel()
        await asyncio.gather(*self._shadows, return_exceptions=True)

    async def _pieces(
        self, caller: Caller, query: Query, deadline: Deadline, *, restart: bool
    ) -> AsyncGenerator[tuple[Generation, Chunk | None], None]:
        plan = self._plan(caller, query)
        with self._admitted(), span("gateway answer", links=_links(plan), task=plan.route.task, model=query.model):
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

    def _plan(self, caller: Caller, query: Query) -> _Plan:
        query.check(self._limits)
        target = parse_model(query.model)
        route = self._tables.route(caller.tenant, target.task)
        unit = unit_of(caller.tenant, query.user, query.request_id)
        choice = choose(route, target, unit, caller.roles)
        return _Plan(
            query=query,
            tenant=caller.tenant,
            route=route,
            choice=choice,
            unit=unit,
            messages=query.prepared(route),
            sampling=query.settled(route),
            began=self._clock(),
            arm=choice.arm,
        )

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._running >= self._max_in_flight:
            raise Busy(f"{self._running} requests are in flight already", reason="TOO_MANY_REQUESTS")
        self._running += 1
        self._gauge.set(self._running)
        try:
            yield
        finally:
            self._running -= 1
            self._gauge.set(self._running)

    async def _relay(self, plan: _Plan, deadline: Deadline, *, restart: bool) -> AsyncGenerator[Chunk | None, None]:
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
                    raise trouble or _nobody(plan)
                await self._tables.wait_for_engines(min(next(waits, _WAITS[-1]), left))
                avoid.clear()
                continue
            plan.arm = arm
            began = False
            calls = self._engines.infer(engine.address, plan.inquiry(arm, deadline.left(self._clock()), whole=restart))
            try:
                async with aclosing(calls) as chunks:
                    async for chunk in chunks:
                        began = True
                        self._note(plan, chunk)
                        yield chunk
                if plan.last is not None and plan.last.finish_reason:
                    return
                raise Unavailable("the engine ended without finishing", reason="NO_ANSWER")
            except PawlError as failure:
                if not _passing(failure) or (began and not restart) or not deadline.left(self._clock()):
                    raise
                log.warning("engine call failed", engine=engine.engine_id, digest=arm.digest, why=str(failure))
                trouble = failure
                avoid.add(engine.address)
                if arm.role is Role.CANARY:
                    plan.canary_trouble = failure.reason
                if began:
                    plan.text.clear()
                    plan.first_token = None
                    yield None

    def _select(self, plan: _Plan, avoid: set[str]) -> tuple[Arm, EngineReport | None]:
        choice = plan.choice
        for arm in (choice.arm, choice.fallback):
            if arm is None:
                continue
            engine = pick_engine(self._tables.engines(), arm.digest, in_flight=self._engines.in_flight(), avoid=avoid)
            if engine is not None:
                if arm is choice.fallback and plan.canary_trouble is None:
                    plan.canary_trouble = _NOT_ROUTABLE
                return arm, engine
        return choice.arm, None

    def _note(self, plan: _Plan, chunk: Chunk) -> None:
        if plan.first_token is None:
            plan.first_token = self._clock()
        plan.text.append(chunk.text)
        plan.last = chunk

    def _finish(self, plan: _Plan, error: str | None) -> None:
        """Record what happened. An answer that the client broke off has neither error nor finish reason."""
        finished = plan.last is not None and bool(plan.last.finish_reason)
        outcome = "error" if error else ("answered" if finished else "cancelled")
        self._answers.labels(plan.route.task, plan.arm.role, outcome).inc()
        if finished:
            self._seconds.labels(plan.route.task).observe(self._clock() - plan.began)
        if plan.first_token is not None:
            self._first.labels(plan.route.task).observe(plan.first_token - plan.began)
        if plan.query.purpose is not Purpose.USE:
            return
        traceparent = current_traceparent()
        fell_back = plan.arm is plan.choice.fallback
        if fell_back and plan.choice.arm.role is Role.CANARY:
            self._records.record(plan.tenant, plan.route.task, self._canary_failure(plan), traceparent)
        self._records.record(plan.tenant, plan.route.task, self._inference(plan, error, fell_back), traceparent)
        if finished and not error and not plan.choice.explicit and plan.arm.role is Role.STABLE:
            self._mirror(plan, traceparent)

    def _inference(self, plan: _Plan, error: str | None, fell_back: bool) -> Inference:
        now = self._clock()
        usage = plan.last.usage if plan.last else None
        return Inference(
            request_id=plan.query.request_id,
            generation=plan.route.generation,
            version=plan.arm.version,
            role=plan.arm.role,
            # A stand-in's answer was not assigned by chance: it must not count for the stable version.
            explicit=plan.choice.explicit or fell_back,
            unit=plan.unit,
            segment=plan.query.segment or None,
            assignment_probability=plan.choice.probability,
            messages=plan.messages,
            output="".join(plan.text),
            finish_reason=plan.last.finish_reason if plan.last else "",
            error=error,
            prompt_tokens=usage.prompt_tokens if usage else 0,
            completion_tokens=usage.completion_tokens if usage else 0,
            latency_ms=round(1000 * (now - plan.began), 3),
            first_token_ms=round(1000 * ((plan.first_token or now) - plan.began), 3),
            provenance=plan.last.provenance if plan.last else _intended(plan.arm),
            created_at=datetime.now(UTC),
        )

    def _canary_failure(self, plan: _Plan) -> Inference:
        canary = plan.choice.arm
        return Inference(
            request_id=f"{plan.query.request_id}.canary",
            pair_id=plan.query.request_id,
            generation=plan.route.generation,
            version=canary.version,
            role=Role.CANARY,
            unit=plan.unit,
            segment=plan.query.segment or None,
            assignment_probability=plan.choice.probability,
            messages=plan.messages,
            error=plan.canary_trouble or _NOT_ROUTABLE,
            provenance=_intended(canary),
            created_at=datetime.now(UTC),
        )

    def _mirror(self, plan: _Plan, traceparent: str | None) -> None:
        arm = sampled_for_shadow(plan.route, plan.query.request_id)
        if arm is None:
            return
        if len(self._shadows) >= self._shadow_in_flight:
            self._mirrored.labels("dropped").inc()
            return
        task = asyncio.get_running_loop().create_task(self._shadow(plan, arm, traceparent), name="shadow")
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    async def _shadow(self, plan: _Plan, arm: Arm, traceparent: str | None) -> None:
        began, first = self._clock(), 0.0
        engine = pick_engine(self._tables.engines(), arm.digest, in_flight=self._engines.in_flight())
        if engine is None:
            self._mirrored.labels("dropped").inc()
            return
        texts: list[str] = []
        last: Chunk | None = None
        error: str | None = None
        inquiry = Inquiry(
            f"{plan.query.request_id}.shadow",
            plan.messages,
            plan.sampling,
            arm.digest,
            Purpose.SHADOW.priority,
            _SHADOW_SECONDS,
            whole=True,
        )
        with span("gateway shadow", parent=traceparent, links=[arm.traceparent] if arm.traceparent else []):
            try:
                async with aclosing(self._engines.infer(engine.address, inquiry)) as chunks:
                    async for chunk in chunks:
                        first = first or self._clock()
                        texts.append(chunk.text)
                        last = chunk
            except PawlError as failure:
                error = failure.reason
                if _passing(failure):
                    # An engine that went away says nothing about the version.
                    self._mirrored.labels("dropped").inc()
                    return
            now = self._clock()
            usage = last.usage if last else None
            self._mirrored.labels("failed" if error else "answered").inc()
            shadow = Inference(
                request_id=inquiry.request_id,
                pair_id=plan.query.request_id,
                generation=plan.route.generation,
                version=arm.version,
                role=Role.SHADOW,
                unit=plan.unit,
                segment=plan.query.segment or None,
                assignment_probability=plan.route.shadow_rate,
                messages=plan.messages,
                output="".join(texts),
                finish_reason=last.finish_reason if last else "",
                error=error,
                prompt_tokens=usage.prompt_tokens if usage else 0,
                completion_tokens=usage.completion_tokens if usage else 0,
                latency_ms=round(1000 * (now - began), 3),
                first_token_ms=round(1000 * ((first or now) - began), 3),
                provenance=last.provenance if last else _intended(arm),
                created_at=datetime.now(UTC),
            )
            self._records.record(plan.tenant, plan.route.task, shadow, current_traceparent())


def _passing(failure: PawlError) -> bool:
    """Whether another engine, or the same one later, may well answer."""
    return isinstance(failure, Transient) or failure.reason == _NOT_ROUTABLE


def _nobody(plan: _Plan) -> Unavailable:
    name = version_name(plan.route.task, plan.choice.arm.version)
    return Unavailable(f"no engine can serve {name} right now", reason="NO_ENGINE", model=name)


def _intended(arm: Arm) -> Provenance:
    return Provenance(base_digest=arm.base_digest, adapter_digest=arm.adapter_digest)


def _links(plan: _Plan) -> list[str]:
    return [plan.arm.traceparent] if plan.arm.traceparent else []
