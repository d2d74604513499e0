"""What the registry wants of runs, as the trainer sees it."""

from collections.abc import Mapping

from libs.contracts.routes import RunState, RunWish
from libs.contracts.subjects import RUNS
from libs.eventing.connection import NatsLink
from libs.eventing.kv import DesiredState


class Wishes:
    """The bucket `runs`; a run nobody said anything about is to run."""

    def __init__(self, link: NatsLink) -> None:
        self._state: DesiredState[RunState] = DesiredState(link, RUNS, RunState)

    async def start(self) -> None:
        """Begin to watch."""
        await self._state.start()

    async def stop(self) -> None:
        """End the watch."""
        await self._state.stop()

    def check(self) -> str | None:
        """Readiness."""
        return self._state.check()

    async def read(self) -> None:
        """Return when the bucket has been read at least once."""
        await self._state.synced.wait()

    def of(self, run_id: str) -> RunWish:
        """What is wanted of a run now."""
        return _wish(self._state.values, run_id)

    async def other_than_run(self, run_id: str) -> RunWish:
        """Wait until the run is to pause or to end."""
        await self._state.wait_for(lambda values: _wish(values, run_id) is not RunWish.RUN)
        return self.of(run_id)

    async def other_than_pause(self, run_id: str) -> RunWish:
        """Wait until the run is to go on or to end."""
        await self._state.wait_for(lambda values: _wish(values, run_id) is not RunWish.PAUSE)
        return self.of(run_id)

    def reason(self, run_id: str) -> str:
        """Who wanted it and why, in words."""
        held = self._state.values.get(run_id)
        by = f" by {held.by}" if held and held.by else ""
        return f"cancelled{by}" + (f": {held.reason}" if held and held.reason else "")


def _wish(values: Mapping[str, RunState], run_id: str) -> RunWish:
    held = values.get(run_id)
    return held.wish if held is not None else RunWish.RUN
