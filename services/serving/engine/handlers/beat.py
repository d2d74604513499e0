"""The engine's word on itself, in the bucket of engines: refreshed by a beat, taken back when it goes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from libs.contracts.errors import PawlError
from libs.contracts.routes import EngineReport
from libs.contracts.subjects import ENGINES
from libs.eventing.connection import NatsLink
from libs.eventing.kv import kv_put
from libs.telemetry import get_logger
from services.serving.engine.domain import Residency

log = get_logger(__name__)

_POLL_SECONDS = 0.5


@dataclass(slots=True)
class Beat:
    """Reports what this engine can serve, every few seconds and at once when that changes."""

    link: NatsLink
    engine_id: str
    address: str
    base_digest: str
    tokenizer_digest: str
    template_digest: str
    max_adapters: int
    max_loras: int
    max_model_len: int
    hourly_cost: float
    embeds: bool
    residency: Residency
    waiting: Callable[[], int]
    changed: asyncio.Event
    seconds: float
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    withdrawn: bool = False

    def report(self) -> EngineReport:
        """The report as of now."""
        return EngineReport(
            engine_id=self.engine_id,
            address=self.address,
            base_digest=self.base_digest,
            tokenizer_digest=self.tokenizer_digest,
            template_digest=self.template_digest,
            routable=self.residency.routable,
            resident=tuple(sorted(self.residency.resident)),
            cold=tuple(sorted(self.residency.cold)),
            pinned=tuple(sorted(self.residency.pinned)),
            in_flight=sum(self.residency.in_flight.values()),
            waiting=self.waiting(),
            failed=dict(self.residency.failed),
            max_adapters=self.max_adapters,
            max_loras=self.max_loras,
            hourly_cost=self.hourly_cost,
            embeds=self.embeds,
            max_model_len=self.max_model_len,
            started_at=self.started_at,
            beat_at=datetime.now(UTC),
        )

    async def run(self) -> None:
        """Beat; never returns. A broker that is away is waited for, serving goes on meanwhile."""
        while True:
            self.changed.clear()
            if self.link.connected and not self.withdrawn:
                try:
                    await kv_put(self.link, ENGINES, self.engine_id, self.report())
                except PawlError as failure:
                    log.warning("engine report not written", why=str(failure))
            try:
                async with asyncio.timeout(self.seconds if self.link.connected else _POLL_SECONDS):
                    await self.changed.wait()
            except TimeoutError:
                continue

    async def withdraw(self) -> None:
        """Take the report back for good: gateways stop coming here at once."""
        self.withdrawn = True
        if self.link.connected:
            try:
                await kv_put(self.link, ENGINES, self.engine_id, None)
            except PawlError as failure:
                log.warning("engine report not withdrawn", why=str(failure))
