"""The sums of the showback on local disk, so that they outlive the process."""

import asyncio
import dataclasses
from pathlib import Path

from libs.contracts.errors import DataLoss
from libs.eventing.snapshots import read_snapshot, write_snapshot
from libs.telemetry import get_logger
from services.serving.gateway.domain import Ledger, UsageKey, Use

log = get_logger(__name__)

_NAME = "usage"


class UsageBook:
    """Reads the sums once and writes them when they changed. A process that is killed loses what came since."""

    def __init__(self, path: Path) -> None:
        """Blocking. A file that cannot be believed is put aside and the sums begin anew."""
        self._path = path
        self.ledger = Ledger()
        self._written: dict[UsageKey, Use] = {}
        try:
            held = read_snapshot(path, _NAME)
        except DataLoss as failure:
            log.error("usage not readable, put aside", why=str(failure))
            path.replace(path.with_suffix(".broken"))
            held = None
        for entry in (held or {}).values():
            self.ledger.add(UsageKey(**entry["key"]), Use(**entry["use"]))

    async def write(self) -> None:
        """Keep the sums as they are now; a disk that refuses is logged and tried again the next time."""
        if self.ledger.held == self._written:
            return
        held = dict(self.ledger.held)
        entries = {
            str(number): {"key": dataclasses.asdict(key), "use": dataclasses.asdict(use)}
            for number, (key, use) in enumerate(sorted(held.items(), key=lambda each: each[0]))
        }
        try:
            await asyncio.to_thread(write_snapshot, self._path, _NAME, entries)
        except OSError as failure:
            log.warning("usage not written", why=str(failure))
            return
        self._written = held
