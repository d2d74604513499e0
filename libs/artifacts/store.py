"""The object store: content under its own digest, written once, verified on read, never changed."""

import asyncio
import contextvars
import hashlib
import re
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

from pydantic import SecretStr

from libs.artifacts import trees
from libs.artifacts.files import digest_file, file_errors, remove
from libs.artifacts.manifest import Limits, Manifest, manifest_of
from libs.artifacts.s3 import connect, s3_errors
from libs.artifacts.transfer import Transfers
from libs.contracts.errors import AlreadyExists, InvalidInput, NotFound
from libs.contracts.ids import DIGEST_PATTERN, Digest, check_name, digest_bytes
from libs.telemetry import span

READ_LIMIT_BYTES = 256 * 1024**2
STREAM_LIMIT_BYTES = 64 * 1024**3
_AT_ONCE = 4
_TIDY_SECONDS = 1.0
_SECRET = "secret"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of the store: its digest, its size in bytes, and when it was written."""

    digest: str
    size: int
    modified: datetime | None


class ObjectStore:
    """Objects of one tenant in one bucket, at `<tenant>/<first two hex digits>/<hex>`.

    Safe for many tasks at once; blocking work runs in a few threads of its own. Every method raises Unavailable
    (Transient) when the server is away, Unauthenticated or PermissionDenied when it refuses.
    """

    def __init__(
        self,
        endpoint: str,
        access_key: str,
        secret_key: str | SecretStr,
        bucket: str = "pawl",
        region: str = "us-east-1",
        *,
        tenant: str = "default",
        limits: Limits | None = None,
        threads: int = 8,
    ) -> None:
        """`endpoint` is `http(s)://host:port`. Raises InvalidInput on an address or tenant that cannot be one."""
        secret = secret_key.get_secret_value() if isinstance(secret_key, SecretStr) else secret_key
        self._tenant = check_name(tenant, "tenant")
        self._bucket = bucket
        self._region = region
        self._limits = limits or Limits()
        self._client = connect(endpoint, access_key, secret, bucket, region, connections=threads)
        self._transfers = Transfers(self._client, bucket)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="objects")
        self._placing: dict[Path, asyncio.Lock] = {}

    def for_tenant(self, tenant: str) -> "ObjectStore":
        """The same store, over the same connections, for another tenant's objects."""
        other = object.__new__(ObjectStore)
        other.__dict__.update(self.__dict__)
        other._tenant = check_name(tenant, "tenant")
        return other

    def close(self) -> None:
        """Give the threads back; transfers that still run finish by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client._http.clear()  # noqa: SLF001 - the client has no close of its own

    def key(self, digest: Digest) -> str:
        """Object key of a digest. Raises InvalidInput when it is not `sha256:<64 hex>`."""
        if not re.match(DIGEST_PATTERN, digest):
            raise InvalidInput(f"{digest[:80]!r} is not sha256:<64 hex digits>", field="digest")
        plain = digest.removeprefix("sha256:")
        return f"{self._tenant}/{plain[:2]}/{plain}"

    # -- writing

    async def put_bytes(self, data: bytes, *, kind: str) -> Digest:
        """Store bytes under their digest; the same bytes are sent once. `kind` says what they are, in traces."""
        digest = digest_bytes(data)
        with span("artifacts put", kind=kind, digest=digest, size=len(data)):
            await self._transfer(self._transfers.upload, self.key(digest), digest, len(data), BytesIO(data))
        return digest

    async def put_file(self, path: Path, *, kind: str) -> Digest:
        """Store a file's content. Raises InvalidInput when it cannot be read, Conflict when it changes meanwhile."""
        digest, size = await self._blocking(digest_file, path)
        with span("artifacts put", kind=kind, digest=digest, size=size):
            await self._upload_file(path, digest, size)
        return digest

    async def put_stream(
        self, chunks: AsyncIterator[bytes], *, kind: str, limit: int = STREAM_LIMIT_BYTES
    ) -> tuple[Digest, int]:
        """Store what a stream brings, through a file on disk; returns digest and size in bytes.

        Raises InvalidInput beyond `limit` bytes, ResourceExhausted when the disk is full.
        """
        hashed, size = hashlib.sha256(), 0
        with tempfile.TemporaryDirectory(prefix="pawl-spool-") as directory:
            spool = Path(directory) / "spool"
            with file_errors(spool), spool.open("wb") as target:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > limit:
                        raise InvalidInput(f"the stream brings more than {limit} bytes", field="size")
                    hashed.update(chunk)
                    await self._blocking(target.write, chunk)
            digest = f"sha256:{hashed.hexdigest()}"
            with span("artifacts put", kind=kind, digest=digest, size=size):
                await self._upload_file(spool, digest, size)
        return digest, size

    async def put_tree(
        self,
        directory: Path,
        *,
        kind: str,
        metadata: Mapping[str, Any] | None = None,
        follow_symlinks: bool = False,
    ) -> Digest:
        """Store every file of a directory, then the manifest that names them; returns the manifest's digest.

        The manifest goes last: a tree that can be found is complete. Raises as `manifest_of` and `put_file`.
        """
        read = partial(manifest_of, kind=kind, metadata=metadata, limits=self._limits, follow_symlinks=follow_symlinks)
        manifest = await self._blocking(read, directory)
        with span(
            "artifacts put tree", kind=kind, digest=manifest.digest, files=len(manifest.files), size=manifest.size
        ):
            distinct = {ref.digest: (path, ref.size) for path, ref in manifest.files.items()}
            await _gather(
                [
                    partial(self._upload_file, directory / path, digest, size)
                    for digest, (path, size) in distinct.items()
                ]
            )
            return await self.put_bytes(manifest.to_json(), kind="manifest")

    async def delete(self, digest: Digest) -> None:
        """Erase an object; one that is gone already is fine. Only erasure and collection do this."""

        def erase() -> None:
            with s3_errors(digest):
                self._client.remove_object(self._bucket, self.key(digest))

        try:
            await self._blocking(erase)
        except NotFound:
            await self.ping()  # a missing bucket is not a missing object

    # -- reading

    async def get_bytes(self, digest: Digest, *, limit: int = READ_LIMIT_BYTES) -> bytes:
        """The bytes of an object, verified. Raises NotFound, DataLoss, InvalidInput beyond `limit` bytes."""
        with span("artifacts get", digest=digest):
            return await self._transfer(self._transfers.read, self.key(digest), digest, limit)

    async def fetch(self, digest: Digest, dest: Path) -> Path:
        """Download to `dest`, which appears verified and whole or stays as it was. Raises NotFound, DataLoss."""
        with span("artifacts fetch", digest=digest):
            await self._transfer(self._transfers.download, self.key(digest), digest, dest)
        return dest

    async def get_manifest(self, digest: Digest) -> Manifest:
        """The manifest of a tree. Raises NotFound, DataLoss, and InvalidInput when a path leaves the tree."""
        data = await self.get_bytes(digest, limit=self._limits.manifest_bytes)
        return Manifest.from_json(data, self._limits)

    async def fetch_tree(self, digest: Digest, dest: Path) -> Path:
        """Bring a tree to the directory `dest`, replacing what is there; it appears whole and verified or not at all.

        A tree that is there already and verifies is left alone, without a word to the server: with the server
        away it can still be used.
        """
        async with self._placing.setdefault(dest, asyncio.Lock()):
            if await self._blocking(trees.verify_tree, dest, digest) is not None:
                return dest
            with span("artifacts fetch tree", digest=digest):
                manifest = await self.get_manifest(digest)
                trees.sweep_partials(dest)
                building = trees.partial_name(dest)
                try:
                    with file_errors(building):
                        await self._blocking(partial(building.mkdir, parents=True))
                    await _gather(
                        [partial(self._place, ref.digest, dest, building, path) for path, ref in manifest.files.items()]
                    )
                    with file_errors(dest):
                        await self._blocking(trees.install_tree, building, dest, manifest)
                finally:
                    await asyncio.shield(self._blocking(remove, building))
        return dest

    async def exists(self, digest: Digest) -> bool:
        """Whether the object is there (its content is not read)."""
        return await self._blocking(self._transfers.size_of, self.key(digest)) is not None

    async def list_objects(self) -> AsyncIterator[StoredObject]:
        """Every object of the tenant, shard by shard: for sweeps that look for what nothing refers to."""

        def shard(prefix: str) -> list[StoredObject]:
            with s3_errors(prefix):
                found = self._client.list_objects(self._bucket, prefix=prefix, recursive=True)
                return [
                    StoredObject(f"sha256:{Path(each.object_name or '').name}", each.size or 0, each.last_modified)
                    for each in found
                ]

        for number in range(256):
            for stored in await self._blocking(shard, f"{self._tenant}/{number:02x}/"):
                if re.match(DIGEST_PATTERN, stored.digest):
                    yield stored

    # -- the tenant's secret

    async def get_secret(self) -> bytes | None:
        """The secret kept beside the tenant's objects, where no sweep lists it; None when there is none."""
        return await self._blocking(self._transfers.read_small, f"{self._tenant}/{_SECRET}")

    async def offer_secret(self, secret: bytes) -> None:
        """Keep a secret; where the server knows conditions, the first offer stands."""
        await self._blocking(self._transfers.offer_small, f"{self._tenant}/{_SECRET}", secret)

    # -- the bucket

    async def ensure_bucket(self) -> None:
        """Make the bucket if it is not there."""

        def make() -> None:
            with s3_errors(self._bucket):
                if not self._client.bucket_exists(self._bucket):
                    self._client.make_bucket(self._bucket, self._region)

        # Somebody else may make it in between; whether it is ours to use shows at the first object.
        with suppress(AlreadyExists):
            await self._blocking(make)

    async def ping(self) -> None:
        """Return if the server answers and has the bucket. Raises Unavailable, NotFound, Unauthenticated."""

        def ask() -> None:
            with s3_errors(self._bucket):
                if not self._client.bucket_exists(self._bucket):
                    raise NotFound(f"there is no bucket {self._bucket!r}", reason="NO_SUCH_BUCKET", field="s3_bucket")

        await self._blocking(ask)

    # -- how

    async def _upload_file(self, path: Path, digest: str, size: int) -> None:
        def send(cancelled: threading.Event) -> None:
            with file_errors(path), path.open("rb") as source:
                self._transfers.upload(self.key(digest), digest, size, source, cancelled)

        await self._transfer(send)

    async def _place(self, digest: str, dest: Path, building: Path, path: str) -> None:
        def link_old() -> bool:
            old = trees.reuse(dest, path, digest)
            if old is None:
                return False
            with file_errors(building / path):
                (building / path).parent.mkdir(parents=True, exist_ok=True)
                (building / path).hardlink_to(old)
            return True

        if not await self._blocking(link_old):
            await self.fetch(digest, building / path)

    async def _transfer(self, work: Callable[..., T], *arguments: object) -> T:
        """Run `work(*arguments, cancelled)` in a thread; a cancelled task tells it to stop, and lets it tidy up."""
        cancelled = threading.Event()
        running = asyncio.ensure_future(self._blocking(work, *arguments, cancelled))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            cancelled.set()
            running.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.wait({running}, timeout=_TIDY_SECONDS)
            raise

    async def _blocking(self, work: Callable[..., T], *arguments: object) -> T:
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._threads, context.run, work, *arguments)


async def _gather(jobs: list[Callable[[], Awaitable[object]]]) -> None:
    """Run the jobs, a few at once; the first failure cancels the others and is the one that is raised."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def gated(job: Callable[[], Awaitable[object]]) -> None:
        async with gate:
            await job()

    try:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(gated(job))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
