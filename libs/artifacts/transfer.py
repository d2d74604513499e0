"""Moving one object: uploads that hash what they send, downloads that resume, verify and then appear."""

import hashlib
import io
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from minio import Minio

from libs.artifacts.files import file_errors, partial_name, sweep_partials, sync_directory
from libs.artifacts.s3 import s3_errors
from libs.contracts.errors import AlreadyExists, Conflict, DataLoss, InvalidInput, NotFound, Transient, Unavailable
from libs.contracts.ids import digest_bytes
from libs.telemetry import get_logger

log = get_logger(__name__)

PART_BYTES = 16 * 1024**2
"""Larger objects go up in parts of this size, each held in memory."""
_RECEIVE_BYTES = 128 * 1024
"""What a broken connection loses at most: the client hands nothing over before it has this much."""
_DOWNLOAD_ATTEMPTS = 4


class Cancelled(Transient):
    """The task that wanted the transfer is gone; the thread that runs it stops at the next chunk."""


class Transfers:
    """Blocking transfers between the file system and one bucket; safe to use from several threads."""

    def __init__(self, client: Minio, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def size_of(self, key: str) -> int | None:
        """Size in bytes of the object, None when there is none."""
        try:
            with s3_errors(key):
                return int(self._client.stat_object(self._bucket, key).size or 0)
        except NotFound as missing:
            # A HEAD has no body, so a missing bucket looks the same; it must not pass for a missing object.
            with s3_errors(self._bucket):
                if not self._client.bucket_exists(self._bucket):
                    raise NotFound(f"there is no bucket {self._bucket!r}", reason="NO_SUCH_BUCKET") from missing
            return None

    def upload(self, key: str, digest: str, size: int, source: BinaryIO, cancelled: threading.Event) -> None:
        """Send `size` bytes that must have `digest`; an object of that size is already there: nothing is sent.

        Raises Conflict when the source changed while it was read (what was sent is removed again).
        """
        present = self.size_of(key)
        if present == size:
            return
        if present is not None:
            log.warning("replacing a damaged object", digest=digest, found_bytes=present, expected_bytes=size)
        reading = _Hashing(source, cancelled)
        changed = Conflict(f"the source of {digest} changed while it was uploaded", reason="SOURCE_CHANGED")
        try:
            with s3_errors(digest):
                self._client.put_object(self._bucket, key, reading, size, part_size=PART_BYTES, num_parallel_uploads=1)
        except OSError as failure:
            # The client's word for a source that ended early; the network's own errors are translated above.
            raise changed from failure
        if reading.digest != digest:
            with s3_errors(digest):
                self._client.remove_object(self._bucket, key)
            raise changed

    def read_small(self, key: str) -> bytes | None:
        """A few bytes that have no digest, None when there are none: nothing to verify them by."""
        if self.size_of(key) is None:
            return None
        with s3_errors(key):
            answer = self._client.get_object(self._bucket, key)
            try:
                return bytes(answer.read())
            finally:
                answer.close()
                answer.release_conn()

    def offer_small(self, key: str, data: bytes) -> None:
        """Write a few bytes where nothing is yet: a server that knows conditions refuses the second of two writers."""
        with suppress(AlreadyExists), s3_errors(key):
            # The client's public call has no conditions.
            self._client._put_object(self._bucket, key, data, {"If-None-Match": "*"})  # noqa: SLF001

    def read(self, key: str, digest: str, limit: int, cancelled: threading.Event) -> bytes:
        """The verified bytes of an object of at most `limit` bytes. Raises DataLoss, InvalidInput, NotFound."""
        target = io.BytesIO()
        self._receive(key, digest, target, cancelled, limit=limit)
        data = target.getvalue()
        if digest_bytes(data) != digest:
            raise DataLoss(f"object {digest} does not hold what its name says", reason="DIGEST_MISMATCH")
        return data

    def download(self, key: str, digest: str, destination: Path, cancelled: threading.Event) -> None:
        """Fetch into `destination`, which appears verified and whole or not at all.

        A broken connection is resumed where it broke. Raises DataLoss, NotFound, Unavailable, ResourceExhausted.
        """
        with file_errors(destination):
            destination.parent.mkdir(parents=True, exist_ok=True)
        sweep_partials(destination)
        partial = partial_name(destination)
        try:
            with file_errors(destination), partial.open("w+b") as target:
                self._receive(key, digest, target, cancelled)
                target.flush()
                os.fsync(target.fileno())
                target.seek(0)
                if f"sha256:{hashlib.file_digest(target, 'sha256').hexdigest()}" != digest:
                    raise DataLoss(f"object {digest} does not hold what its name says", reason="DIGEST_MISMATCH")
            with file_errors(destination):
                partial.replace(destination)
                sync_directory(destination.parent)
        finally:
            partial.unlink(missing_ok=True)

    def _receive(
        self, key: str, digest: str, target: BinaryIO, cancelled: threading.Event, *, limit: int | None = None
    ) -> None:
        for attempt in range(1, _DOWNLOAD_ATTEMPTS + 1):
            before = target.tell()
            try:
                self._receive_rest(key, digest, target, cancelled, limit)
            except Cancelled:
                raise
            except Unavailable as failure:
                # Only progress earns another attempt: a server that is away is reported at once.
                if attempt == _DOWNLOAD_ATTEMPTS or target.tell() == before:
                    raise
                log.warning("resuming a download", digest=digest, at=target.tell(), why=str(failure))
            else:
                return

    def _receive_rest(
        self, key: str, digest: str, target: BinaryIO, cancelled: threading.Event, limit: int | None
    ) -> None:
        offset = target.tell()
        with s3_errors(digest):
            response = self._client.get_object(self._bucket, key, offset=offset)
            try:
                announced = response.headers.get("Content-Length")
                for chunk in response.stream(_RECEIVE_BYTES):
                    if cancelled.is_set():
                        raise Cancelled("the transfer was cancelled", reason="CANCELLED")
                    if limit is not None and target.tell() + len(chunk) > limit:
                        raise InvalidInput(f"object {digest} is larger than {limit} bytes", field="size")
                    target.write(chunk)
                received = target.tell() - offset
                if announced is not None and received < int(announced):
                    raise Unavailable(
                        f"connection ended after {received} of {announced} bytes", reason="S3_UNAVAILABLE"
                    )
            finally:
                response.close()
                response.release_conn()


class _Hashing(io.RawIOBase):
    """A source that hashes what is read from it and stops when nobody wants it any more."""

    def __init__(self, source: BinaryIO, cancelled: threading.Event) -> None:
        super().__init__()
        self._source = source
        self._cancelled = cancelled
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def read(self, size: int = -1) -> bytes:
        if self._cancelled.is_set():
            raise Cancelled("the transfer was cancelled", reason="CANCELLED")
        data = self._source.read(size)
        self._hash.update(data)
        return data
