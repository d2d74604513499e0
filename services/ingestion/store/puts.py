"""Which objects were put and may never have been listed: what a killed process leaves behind is found again."""

import asyncio
import time
from pathlib import Path

from sqlalchemy import select

from libs.artifacts import ObjectStore
from libs.artifacts.files import digest_file
from libs.contracts.ids import Digest, digest_bytes
from libs.outbox.database import Database
from libs.telemetry import get_logger
from services.ingestion.store.tables import IMPORTS, INFERENCE_SEGMENTS, SEGMENTS

log = get_logger(__name__)

_ROTATE_LINES = 5000
_CHUNK = 500


class PutJournal:
    """A line for each object, written before it is put. A lost line costs a few bytes of storage, never a row."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = 0

    def note(self, tenant: str, digest: str) -> None:
        """An object is about to be put."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="ascii") as file:
            file.write(f"{time.time():.0f} {tenant} {digest}\n")
        self._lines += 1

    def noted(self) -> set[tuple[str, str]]:
        """Tenant and digest of all that was noted."""
        if not self._path.exists():
            return set()
        lines = (line.split() for line in self._path.read_text(encoding="ascii", errors="replace").splitlines())
        return {(parts[1], parts[2]) for parts in lines if len(parts) == 3}

    def keep(self, left: set[tuple[str, str]]) -> None:
        """Forget all but these."""
        fresh = self._path.with_suffix(".new")
        fresh.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text("".join(f"{time.time():.0f} {tenant} {digest}\n" for tenant, digest in sorted(left)), "ascii")
        fresh.replace(self._path)
        self._lines = len(left)

    @property
    def long(self) -> bool:
        """Whether it is time to forget what was listed since."""
        return self._lines > _ROTATE_LINES


class JournalledStore(ObjectStore):
    """An object store that notes each object before it puts it."""

    def __init__(self, store: ObjectStore, journal: PutJournal, tenant: str) -> None:
        """`store` is the tenant's."""
        self.__dict__.update(store.__dict__)
        self._journal = journal
        self._owner = tenant

    async def put_bytes(self, data: bytes, *, kind: str) -> Digest:
        """As `ObjectStore.put_bytes`."""
        self._journal.note(self._owner, digest_bytes(data))
        return await super().put_bytes(data, kind=kind)

    async def put_file(self, path: Path, *, kind: str) -> Digest:
        """As `ObjectStore.put_file`."""
        digest, _ = await asyncio.to_thread(digest_file, path)
        self._journal.note(self._owner, digest)
        return await super().put_file(path, kind=kind)


async def unlisted(database: Database, noted: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of the noted objects that no table names."""
    found: set[str] = set()
    digests = sorted({digest for _, digest in noted})
    async with database.reading() as session:
        for at in range(0, len(digests), _CHUNK):
            chunk = digests[at : at + _CHUNK]
            for column in (SEGMENTS.c.digest, INFERENCE_SEGMENTS.c.digest, IMPORTS.c.quarantine):
                found.update((await session.execute(select(column).where(column.in_(chunk)))).scalars())
    return {(tenant, digest) for tenant, digest in noted if digest not in found}
