"""Records that the broker could not take, on disk: appended in batches, read back in order, gone once delivered."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from libs.telemetry import get_logger

log = get_logger(__name__)

_FILE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message ready to send; `headers` hold the id that makes a repetition count once."""

    subject: str
    headers: dict[str, str]
    body: str


class Spill:
    """JSONL files of at most some 8 MiB each; a file is deleted after all of it was delivered.

    A process killed between delivery and deletion delivers a file again: the stream drops repeated ids.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        directory.mkdir(parents=True, exist_ok=True)
        self._sizes = {file: file.stat().st_size for file in sorted(directory.glob("*.jsonl"))}
        self._next = 1 + max((int(file.stem) for file in self._sizes), default=0)
        self._open: Path | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing is waiting."""
        return not self._sizes

    def append(self, parcels: Sequence[Parcel]) -> int:
        """Write a batch and fsync it; returns how many fitted within `max_bytes`. Blocking; raises OSError."""
        lines = [json.dumps(asdict(each), separators=(",", ":")).encode() + b"\n" for each in parcels]
        room = self._max_bytes - sum(self._sizes.values())
        fitting: list[bytes] = []
        for line in lines:
            room -= len(line)
            if room < 0:
                break
            fitting.append(line)
        if fitting:
            self._write(b"".join(fitting))
        return len(fitting)

    def files(self) -> list[Path]:
        """What is waiting, oldest first. A file that was listed is not appended to any more."""
        self._open = None
        return sorted(self._sizes)

    def read(self, file: Path) -> Iterator[Parcel]:
        """The parcels of a file; half a line, as a crash leaves it, is skipped."""
        with file.open("rb") as opened:
            for line in opened:
                try:
                    held = json.loads(line)
                    yield Parcel(held["subject"], held["headers"], held["body"])
                except (ValueError, KeyError, TypeError) as failure:
                    log.warning("spilled record not readable, skipped", file=file.name, why=str(failure))

    def done(self, file: Path) -> None:
        """Delete a file that was delivered."""
        file.unlink(missing_ok=True)
        self._sizes.pop(file, None)

    def _write(self, data: bytes) -> None:
        if self._open is None or self._sizes.get(self._open, 0) > _FILE_BYTES:
            self._open = self._directory / f"{self._next:012d}.jsonl"
            self._next += 1
        with self._open.open("ab") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        self._sizes[self._open] = self._sizes.get(self._open, 0) + len(data)
