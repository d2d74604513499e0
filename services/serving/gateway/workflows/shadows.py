"""Shadows: requests mirrored to the challenger after their answer, behind everything else, paired in the log."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

from libs.contracts.errors import PawlError
from libs.contracts.routes import Arm
from libs.telemetry import counter, current_traceparent, span
from services.serving.gateway.domain import (
    Chunk,
    EngineCall,
    Purpose,
    Records,
    Tables,
    ToolReader,
    pick_engine,
    sampled_for_shadow,
)
from services.serving.gateway.workflows.charging import Charging
from services.serving.gateway.workflows.plan import Plan, passing
from services.serving.gateway.workflows.records import shadowed

_SECONDS = 60.0


class Shadows:
    """Runs at most `limit` mirrored requests at once; one more is dropped, for production comes first."""

    def __init__(
        self,
        *,
        tables: Tables,
        engines: EngineCall,
        records: Records,
        charging: Charging,
        limit: int,
        clock: Callable[[], float],
    ) -> None:
        self._charging = charging
        self._tables = tables
        self._engines = engines
        self._records = records
        self._limit = limit
        self._clock = clock
        self._running: set[asyncio.Task[None]] = set()
        self._mirrored = counter("gateway_shadows", "Mirrored requests, by what became of them.", ("fate",))

    def mirror(self, plan: Plan, traceparent: str | None, *, spare: bool) -> None:
        """Mirror a request that the stable version has answered, if it is in the sample and there is time to spare."""
        arm = sampled_for_shadow(plan.route, plan.query.request_id)
        if arm is None:
            return
        if not spare or len(self._running) >= self._limit:
            self._mirrored.labels("dropped").inc()
            return
        task = asyncio.get_running_loop().create_task(self._shadow(plan, arm, traceparent), name="shadow")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def stop(self) -> None:
        """Drop those that are still running."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _shadow(self, plan: Plan, arm: Arm, traceparent: str | None) -> None:
        began, first = self._clock(), 0.0
        engine = pick_engine(self._tables.engines(), arm.digest, in_flight=self._engines.in_flight())
        if engine is None:
            self._mirrored.labels("dropped").inc()
            return
        inquiry = replace(
            plan.inquiry(arm, _SECONDS, whole=True),
            request_id=f"{plan.query.request_id}.shadow",
            priority=Purpose.SHADOW.priority,
            sampling=replace(plan.sampling, n=1, logprobs=False, top_logprobs=0),
        )
        reader = ToolReader(plan.form, inquiry.request_id)
        chunks: list[Chunk] = []
        error: str | None = None
        with span("gateway shadow", parent=traceparent, links=[arm.traceparent] if arm.traceparent else []):
            try:
                async with aclosing(self._engines.infer(engine.address, inquiry)) as pieces:
                    async for piece in pieces:
                        first = first or self._clock()
                        text, calls, finish = reader.feed(piece.text, piece.finish_reason)
                        chunks.append(replace(piece, text=text, tool_calls=calls, finish_reason=finish))
            except PawlError as failure:
                error = failure.reason
                if passing(failure):
                    # An engine that went away says nothing about the version.
                    self._mirrored.labels("dropped").inc()
                    return
            now = self._clock()
            self._mirrored.labels("failed" if error else "answered").inc()
            self._charging.shadow(plan, arm, chunks, engine.hourly_cost)
            record = shadowed(plan, arm, inquiry.request_id, chunks, error, now - began, (first or now) - began)
            self._records.record(plan.caller.tenant, plan.route.task, record, current_traceparent())
