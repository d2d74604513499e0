"""Which objects were put and may never have been listed: what a killed process leaves behind is found again."""

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from sqlalchemy import select

from libs.artifacts import ObjectStore
from libs.artifacts.files import digest_file
from libs.artifacts.store import READ_LIMIT_BYTES
from libs.contracts.errors import (
    Conflict,
    NotFound,
    PawlError,
    Permanent,
    PermissionDenied,
    ResourceExhausted,
    Transient,
    Unauthenticated,
    Unavailable,
)
from libs.contracts.ids import Digest, digest_bytes
from libs.outbox.database import Database
from libs.telemetry import get_logger
from services.ingestion.store.tables import IMPORTS, INFERENCE_SEGMENTS, SEGMENTS, STAGED

log = get_logger(__name__)

_ROTATE_LINES = 5000
_CHUNK = 500


class PutJournal:
    """A line for each object, written before it is put. A lost line costs a few bytes of storage, never a row.

    Where its disk refuses it all raises ResourceExhausted or Unavailable: who puts waits, and buries no message.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = 0

    def note(self, tenant: str, digest: str) -> None:
        """An object is about to be put."""
        with _transient(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="ascii") as file:
                # The line before may have been cut.
                file.write(f"\n{int(time.time())} {tenant} {digest}\n")
        self._lines += 1

    def noted(self) -> dict[tuple[str, str], float]:
        """Tenant and digest of all that was noted, with the time (epoch seconds) when it was last."""
        with _transient(self._path):
            text = self._path.read_text(encoding="ascii", errors="replace") if self._path.exists() else ""
        lines = (line.split() for line in text.splitlines())
        return {(parts[1], parts[2]): float(parts[0]) for parts in lines if len(parts) == 3 and parts[0].isdigit()}

    def forget(self, gone: Collection[tuple[str, str]]) -> None:
        """Forget these."""
        left = {each: at for each, at in self.noted().items() if each not in gone}
        fresh = self._path.with_suffix(".new")
        with _transient(fresh):
            fresh.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text("".join(f"{at:.0f} {tenant} {digest}\n" for (tenant, digest), at in left.items()), "ascii")
            fresh.replace(self._path)
        self._lines = len(left)

    @property
    def long(self) -> bool:
        """Whether it is time to forget what was listed since."""
        return self._lines > _ROTATE_LINES


@contextmanager
def _transient(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        kind, reason = (ResourceExhausted, "DISK_FULL") if full else (Unavailable, "FILE_SYSTEM")
        raise kind(f"{path}: {error.strerror or error}", reason=reason) from error


@contextmanager
def _blameless(*more: type[PawlError]) -> Iterator[None]:
    try:
        yield
    except Permanent as error:
        if error.reason != "S3_REFUSED" and not isinstance(error, (Unauthenticated, PermissionDenied, *more)):
            raise
        raise Unavailable(error.message, reason=error.reason) from error


class JournalledStore(ObjectStore):
    """An object store that notes each object before it puts it.

    Where its server refuses who asks, or has no such bucket, it is Unavailable: no message is to blame for that, so
    that none may be buried.
    """

    def __init__(self, store: ObjectStore, journal: PutJournal, tenant: str) -> None:
        """`store` is the tenant's."""
        self.__dict__.update(store.__dict__)
        self._journal = journal
        self._owner = tenant

    async def put_bytes(self, data: bytes, *, kind: str) -> Digest:
        """As `ObjectStore.put_bytes`."""
        self._journal.note(self._owner, digest_bytes(data))
        with _blameless(NotFound):
            return await super().put_bytes(data, kind=kind)

    async def put_file(self, path: Path, *, kind: str) -> Digest:
        """As `ObjectStore.put_file`."""
        digest, _ = await asyncio.to_thread(digest_file, path)
        self._journal.note(self._owner, digest)
        with _blameless(NotFound):
            return await super().put_file(path, kind=kind)

    async def get_bytes(self, digest: Digest, *, limit: int = READ_LIMIT_BYTES) -> bytes:
        """As `ObjectStore.get_bytes`."""
        with _blameless():
            return await super().get_bytes(digest, limit=limit)

    async def fetch(self, digest: Digest, dest: Path) -> Path:
        """As `ObjectStore.fetch`."""
        with _blameless():
            return await super().fetch(digest, dest)

    async def delete(self, digest: Digest) -> None:
        """As `ObjectStore.delete`."""
        with _blameless(NotFound):
            await super().delete(digest)

    async def get_secret(self) -> bytes | None:
        """As `ObjectStore.get_secret`."""
        with _blameless(NotFound):
            return await super().get_secret()

    async def offer_secret(self, secret: bytes) -> None:
        """As `ObjectStore.offer_secret`."""
        with _blameless(NotFound):
            await super().offer_secret(secret)


@asynccontextmanager
async def listing(objects: Callable[[str], ObjectStore], put: Collection[tuple[str, str]]) -> AsyncIterator[None]:
    """Within, what was `put` (tenant and digest) is listed in one transaction; it goes again when that meets Conflict.

    No other attempt has put the same bytes. What cannot be deleted now is deleted from the journal.
    """
    try:
        yield
    except Conflict:
        try:
            for tenant, digest in put:
                await objects(tenant).delete(digest)
        except (Transient, NotFound) as error:
            log.warning("what could not be listed stays until it is swept", reason=str(error))
        raise


async def unlisted(database: Database, noted: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of the noted objects that no table names; an import that runs names what it is about to list."""
    found: set[str] = set()
    digests = sorted({digest for _, digest in noted})
    async with database.reading() as session:
        for at in range(0, len(digests), _CHUNK):
            chunk = digests[at : at + _CHUNK]
            for column in (SEGMENTS.c.digest, INFERENCE_SEGMENTS.c.digest, IMPORTS.c.quarantine, STAGED.c.digest):
                found.update((await session.execute(select(column).where(column.in_(chunk)))).scalars())
    return {(tenant, digest) for tenant, digest in noted if digest not in found}
