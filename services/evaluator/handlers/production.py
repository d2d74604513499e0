"""Production as numbers for whoever alerts on them: rates of what was answered, and how far inputs have moved."""

import asyncio
import time

from libs.contracts.errors import Transient
from libs.telemetry import gauge, get_logger
from services.evaluator.domain.drift_inputs import drifts
from services.evaluator.domain.live_metrics import ALL, metrics_of
from services.evaluator.store.live import Live, LiveTask
from services.evaluator.store.live_readings import LiveReadings

log = get_logger(__name__)

RATES = ("satisfaction", "errors", "escalations", "refusals", "invalid")
MOVED = "moved"


class Production:
    """Measures what `pawl live` shows, again and again, and says once when inputs have moved."""

    def __init__(self, live: Live, readings: LiveReadings) -> None:
        self._live = live
        self._readings = readings
        self._moved: dict[tuple[str, str, str], tuple[int, bool]] = {}

    async def run(self, every: float) -> None:
        """Look at all tasks each `every` seconds."""
        while True:
            await asyncio.sleep(every)
            try:
                await self.look()
            except Transient as error:
                log.warning("production not measured", reason=str(error))

    async def look(self) -> None:
        """Measure every task once."""
        for task in await self._live.tasks():
            stable = await self._readings.stable_version(task.tenant, task.task)
            if stable is not None:
                await self._rates(task)
                await self._drift(task, stable)

    async def _rates(self, task: LiveTask) -> None:
        whose = (task.tenant, task.task)
        served = await self._readings.served(*whose, time.time() - task.spec.rollout.live.span_seconds)
        # Off the loop: an hour of much traffic takes a while, and canaries are assessed meanwhile.
        newest: dict[str, dict[str, float]] = {}
        for arm in await asyncio.to_thread(metrics_of, served):
            line = arm["segments"][ALL]
            rates = {name: line[name]["value"] for name in RATES if line[name] is not None}
            newest.setdefault(arm["role"], rates)  # versions come newest first
        shown = gauge("live_rate", "rate of production, the user as its unit", ("tenant", "task", "role", "rate"))
        for role, rates in newest.items():
            for name, value in rates.items():
                shown.labels(*whose, role, name).set(value)

    async def _drift(self, task: LiveTask, stable: int) -> None:
        whose, live = (task.tenant, task.task), task.spec.rollout.live
        asked = await self._readings.asked(*whose, stable, live.reference_users)
        shown = gauge("live_drift_index", "population stability index of inputs", ("tenant", "task", "trait"))
        alert = gauge("live_drift_moved", "1 where inputs are shown to have moved", ("tenant", "task", "trait"))
        for trait, found in (await asyncio.to_thread(drifts, *asked, live.drift_index)).items():
            index, moved = found["index"]["value"], found["moved"] == MOVED
            shown.labels(*whose, trait).set(index)
            alert.labels(*whose, trait).set(float(moved))
            if moved and self._moved.get((*whose, trait)) != (stable, True):
                log.warning("inputs have moved", task=task.task, trait=trait, index=index, threshold=live.drift_index)
            self._moved[*whose, trait] = (stable, moved)
