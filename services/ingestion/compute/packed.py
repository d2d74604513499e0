"""Opens a file that may be packed with gzip or zstd, in bounded memory, and refuses what would unpack without end."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from libs.contracts.errors import InvalidInput

GZIP, ZSTD = "gzip", "zstd"
_MAGIC = {b"\x1f\x8b": GZIP, b"\x28\xb5\x2f\xfd": ZSTD}
_FREE_BYTES = 256 * 1024**2
_MAX_RATIO = 200
"""Text packs 4 to 30 times, logs of one line a hundred; a bomb a thousand times and more."""
_BUFFER = 1024 * 1024
_AHEAD = _BUFFER + 256 * 1024
"""What may have been read of a file and has become no record yet: an unpacked buffer, and one that is packed."""


def packing(path: Path) -> str:
    """`gzip`, `zstd` or nothing, by the first bytes."""
    with path.open("rb") as file:
        head = file.read(4)
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "")


class Source:
    """Bytes of a file, unpacked; every failure of the packing is InvalidInput."""

    def __init__(self, raw: IO[bytes], size: int, packed: str) -> None:
        self._raw = raw
        self._size = size
        self._packed = packed
        self._expanded = 0
        self._at = 0
        self._file: IO[Any] = raw
        if packed == GZIP:
            self._file = io.BufferedReader(gzip.GzipFile(fileobj=raw), _BUFFER)
        elif packed == ZSTD:
            stream = pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")
            self._file = io.BufferedReader(stream, _BUFFER)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end."""
        return self._checked(self._guard(self._file.read, size))

    def readline(self, size: int) -> bytes:
        """A line with its end, or its first `size` bytes."""
        return self._checked(self._guard(self._file.readline, size))

    def fraction(self) -> float:
        """How much of the file was read at least, 0 to 1: what is read ahead does not count."""
        return max(self._at - _AHEAD, 0) / self._size if self._size else 1.0

    def _checked(self, data: bytes) -> bytes:
        self._expanded += len(data)
        self._at = self._raw.tell()
        if self._packed and self._expanded > _FREE_BYTES and self._expanded > self._at * _MAX_RATIO:
            raise InvalidInput(
                f"{self._at} packed bytes became {self._expanded}, more than {_MAX_RATIO} times as many: "
                "a compression bomb is not read; unpack the file if it is none",
                reason="COMPRESSION_BOMB",
                field="file",
            )
        return data

    def _guard(self, read: Any, size: int) -> bytes:
        try:
            return bytes(read(size))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InvalidInput(f"the compressed file is damaged: {error}", field="file") from error
        except OSError as error:
            if self._packed != ZSTD:
                raise
            raise InvalidInput(f"the compressed file is damaged: {error}", field="file") from error


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """The file's bytes, unpacked."""
    packed = packing(path)
    with path.open("rb") as raw:
        yield Source(raw, path.stat().st_size, packed)
