"""Files that are whole or absent: hashing, temporary names, durable renames."""

import errno
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from libs.contracts.errors import InvalidInput, PawlError, ResourceExhausted, Unavailable

CHUNK_BYTES = 1024 * 1024
_STALE_SECONDS = 3600.0


def digest_file(path: Path) -> tuple[str, int]:
    """(`sha256:<hex>`, size in bytes) of a file, read in chunks. Raises InvalidInput when it cannot be read."""
    hashed, size = hashlib.sha256(), 0
    with file_errors(path), path.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            hashed.update(chunk)
            size += len(chunk)
    return f"sha256:{hashed.hexdigest()}", size


def partial_name(destination: Path) -> Path:
    """A fresh hidden name beside `destination`, for what is not complete yet."""
    return destination.with_name(f".{destination.name}.{uuid.uuid4().hex}.partial")


def sweep_partials(destination: Path) -> None:
    """Remove what killed processes left of earlier attempts at `destination` (untouched for an hour)."""
    for left in destination.parent.glob(f".{destination.name}.*.partial"):
        try:
            stale = time.time() - left.stat().st_mtime > _STALE_SECONDS
        except FileNotFoundError:
            continue
        if stale:
            remove(left)


def remove(path: Path) -> None:
    """Remove a file or a tree; one that is gone already is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Make renames inside the directory survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_file(path: Path, data: bytes) -> None:
    """Write a file so that it is either the old one or the whole new one, also after a crash."""
    with file_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_name(path)
        try:
            with partial.open("wb") as target:
                target.write(data)
                target.flush()
                os.fsync(target.fileno())
            partial.replace(path)
            sync_directory(path.parent)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Name the file in what the file system refuses: a full disk is ResourceExhausted, the rest is InvalidInput."""
    try:
        yield
    except PawlError:
        raise
    except OSError as failure:
        raise translate(failure, path) from failure


def translate(failure: OSError, path: Path) -> PawlError:
    """The error of the tree for a file-system error."""
    why = failure.strerror or str(failure)
    if failure.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceExhausted(f"no space left to write {path}", reason="DISK_FULL")
    if failure.errno in (errno.EIO, errno.EMFILE, errno.ENFILE):
        return Unavailable(f"{path}: {why}", reason="FILE_SYSTEM")
    return InvalidInput(f"{path}: {why.lower()}", field="path")
