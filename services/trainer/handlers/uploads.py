"""Uploads checkpoints beside the training: the newest one always, one at a time, never in the way of a step."""

import asyncio
from pathlib import Path

from libs.contracts.commands import TrainModel
from libs.contracts.envelope import Envelope
from libs.contracts.errors import Transient
from libs.telemetry import get_logger
from services.trainer.clients.workspace import Workspace
from services.trainer.domain.protocol import Saved
from services.trainer.domain.runs import Attempt
from services.trainer.store import RunStore

log = get_logger(__name__)

_RETRY_SECONDS = 2.0


class CheckpointUploads:
    """Takes what was saved and makes it durable and committed; a newer checkpoint replaces one still waiting."""

    def __init__(self, attempt: Attempt, cause: Envelope[TrainModel], workspace: Workspace, store: RunStore) -> None:
        self._attempt = attempt
        self._cause = cause
        self._workspace = workspace
        self._store = store
        self._waiting: Saved | None = None
        self._offered = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def offer(self, saved: Saved) -> None:
        """A checkpoint is on disk."""
        self._waiting = saved
        self._idle.clear()
        self._offered.set()

    async def run(self) -> None:
        """Upload what is offered, until cancelled. Raises StaleEpoch when the attempt was overtaken."""
        while True:
            await self._offered.wait()
            self._offered.clear()
            while self._waiting is not None:
                saved, self._waiting = self._waiting, None
                try:
                    await self._one(saved)
                except Transient as error:
                    # The copy on this disk still protects against everything but the loss of the disk.
                    log.warning("checkpoint not uploaded yet", step=saved.step, reason=str(error))
                    self._waiting = self._waiting or saved
                    await asyncio.sleep(_RETRY_SECONDS)
            self._idle.set()

    async def settle(self, seconds: float) -> bool:
        """Wait until everything offered is committed; False when that takes longer than `seconds`."""
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def _one(self, saved: Saved) -> None:
        run_id = self._attempt.run_id
        digest = await self._workspace.upload_checkpoint(self._attempt, saved.step, Path(saved.path))
        await self._store.checkpointed(self._attempt, self._cause, saved.step, digest)
        await self._workspace.drop_older_checkpoints(run_id, saved.step)
        log.info("checkpoint committed", run_id=run_id, step=saved.step, digest=digest)
