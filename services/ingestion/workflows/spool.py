"""Files of one import on disk: what was received, and the rows that were set aside."""

import asyncio
import base64
import errno
import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import IO

from libs.contracts.errors import InvalidInput, ResourceExhausted
from services.ingestion.store.imports import BadRow

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Spool:
    """A directory of files that live as long as their import."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root = root
        self._max_bytes = max_bytes

    def sweep(self) -> None:
        """Drop what a process before this one left half received."""
        shutil.rmtree(self._root, ignore_errors=True)

    @contextmanager
    def directory(self) -> Iterator[Path]:
        """A fresh directory, gone at the end. Raises ResourceExhausted where the disk has no room left."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            directory = Path(mkdtemp(dir=self._root))
            try:
                yield directory
            finally:
                shutil.rmtree(directory, ignore_errors=True)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise ResourceExhausted(
                f"the import cannot be spooled: {error.strerror or error}", reason="DISK_FULL"
            ) from error

    async def receive(self, path: Path, chunks: AsyncIterator[bytes]) -> str:
        """Write what a stream brings; returns its sha256 in hex. Raises InvalidInput beyond the limit."""
        hashed, size = hashlib.sha256(), 0
        with path.open("wb") as target:
            async for chunk in chunks:
                size += len(chunk)
                if size > self._max_bytes:
                    raise InvalidInput(f"the file is larger than {self._max_bytes} bytes", field="file")
                await asyncio.to_thread(_take, hashed, target, chunk)
        return hashed.hexdigest()


class Quarantine:
    """Rows set aside, one JSON object a line: import, row, field, reason, and `raw` or `raw_base64` as it lay.

    With the import's id in it no two imports share an object, which one of them would take from the other.
    """

    def __init__(self, path: Path, import_id: str) -> None:
        self.path = path
        self._import_id = import_id
        self._file: IO[str] = path.open("w", encoding="utf-8")

    def write(self, bad: list[tuple[BadRow, bytes]]) -> None:
        """Append rows."""
        for each, raw in bad:
            why = {"row": each.row, "field": each.field, "reason": each.reason}
            line = {"import": self._import_id, **why, **_told(raw)}
            self._file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


def _told(raw: bytes) -> dict[str, str]:
    try:
        return {"raw": raw.decode()}
    except UnicodeDecodeError:
        return {"raw_base64": base64.b64encode(raw).decode()}


def _take(hashed: "hashlib._Hash", target: IO[bytes], chunk: bytes) -> None:
    hashed.update(chunk)
    target.write(chunk)
