"""Desired state in KV buckets: compare-and-set writes, and a live copy that survives the broker's absence on disk."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from nats.errors import Error as NatsError
from nats.js.errors import KeyNotFoundError, NotFoundError
from nats.js.kv import KV_DEL, KV_OP, KV_PURGE
from pydantic import BaseModel, ValidationError

from libs.contracts.errors import Conflict, DataLoss, FailedPrecondition, InvalidInput, PermissionDenied
from libs.eventing.connection import NatsLink
from libs.eventing.publish import publish_raw, translate
from libs.eventing.snapshots import read_snapshot, write_snapshot
from libs.eventing.tasks import end, launch
from libs.telemetry import get_logger

log = get_logger(__name__)

M = TypeVar("M", bound=BaseModel)

GENERATION = "pawl-generation"
_LAST = "Nats-Expected-Last-Subject-Sequence"
_DRIFT_SECONDS = 10.0
_RETRY_SECONDS = 1.0
_KEEP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Entry:
    """What a key holds: `value` None for nothing, `revision` 0 for never written, `generation` of its writer."""

    value: bytes | None
    revision: int
    generation: int | None = None


def kv_stream(bucket: str) -> str:
    """Name of the stream behind a bucket."""
    return f"KV_{bucket}"


def kv_subject(bucket: str, key: str) -> str:
    """Subject of a key; InvalidInput when the key cannot be one."""
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-/_=.")
    if not key or set(key) - allowed or key.startswith(".") or key.endswith(".") or ".." in key:
        raise InvalidInput(f"{key!r} cannot be a KV key", field="key")
    return f"$KV.{bucket}.{key}"


async def kv_get(link: NatsLink, bucket: str, key: str) -> Entry:
    """Read a key from the broker; a deleted or unknown key is an empty entry with the revision to build upon."""
    subject = kv_subject(bucket, key)
    try:
        stored = await link.js.get_last_msg(kv_stream(bucket), subject, direct=True)
    except (KeyNotFoundError, NotFoundError):
        return Entry(None, 0)
    except (NatsError, OSError) as error:
        raise translate(error, subject, link.js) from error
    headers = {name.lower(): value for name, value in (stored.headers or {}).items()}
    gone = headers.get(KV_OP.lower()) in (KV_DEL, KV_PURGE) or "nats-marker-reason" in headers
    generation = headers.get(GENERATION)
    return Entry(
        None if gone else stored.data or b"", int(stored.seq or 0), int(generation) if generation is not None else None
    )


async def kv_put(
    link: NatsLink,
    bucket: str,
    key: str,
    value: BaseModel | None,
    *,
    expected_revision: int | None = None,
    generation: int | None = None,
    timeout: float = 5.0,
) -> int:
    """Write a key (None deletes it) and return its new revision.

    With `expected_revision` (0: never written before) a write by somebody else in between is a Conflict.
    """
    headers: dict[str, str] = {}
    if value is None:
        headers[KV_OP] = KV_DEL
    if expected_revision is not None:
        headers[_LAST] = str(expected_revision)
    if generation is not None:
        headers[GENERATION] = str(generation)
    data = b"" if value is None else value.model_dump_json().encode()
    acknowledged = await publish_raw(
        link.js, kv_subject(bucket, key), data, headers, timeout=timeout, stream=kv_stream(bucket)
    )
    return int(acknowledged.seq)


async def kv_advance(
    link: NatsLink,
    bucket: str,
    key: str,
    value: bytes | None,
    generation: int,
    *,
    known: dict[str, Entry] | None = None,
) -> bool:
    """Write `value` unless the key already holds this generation or a newer one; True when written.

    Compare-and-set in a loop: whatever the order in which two writers get here, the higher generation stays. `known` is
    what the caller's writes left behind, by subject: it saves asking, and where somebody else wrote it is dropped.
    """
    subject = kv_subject(bucket, key)
    for _ in range(20):
        held = known.pop(subject, None) if known is not None else None
        if held is None:
            held = await kv_get(link, bucket, key)
        if held.generation is not None and held.generation >= generation:
            return False
        headers = {GENERATION: str(generation), _LAST: str(held.revision)}
        if value is None:
            headers[KV_OP] = KV_DEL
        try:
            stored = await publish_raw(link.js, subject, value or b"", headers, stream=kv_stream(bucket))
        except Conflict:
            continue
        if known is not None:
            known[subject] = Entry(value, int(stored.seq), generation)
        return True
    raise Conflict(f"{subject} is written by somebody else all the time", reason="KV_CONTENTION")


class DesiredState(Generic[M]):
    """A live copy of a bucket.

    `values` holds the last good value of every key. What does not parse is refused and the value before it kept: a
    broken route must not take a working one down. With `cache_path` the state is kept on disk (temporary file, fsync,
    rename; digest inside) within a second after it was seen, and read at start, so the process answers with NATS away.
    A change counts at once: it waits neither for the disk nor for the change before it. On reconnection, on any
    failure of the watch and when the bucket moved without a word, the whole bucket is read anew.

    Args:
        link: The process's link; may still be dialling.
        bucket: Name of the bucket.
        model: Type of its values.
        cache_path: File of the local copy; None keeps none.
        on_change: Called with (key, value or None) after each change, in order, on the loop.
    """

    def __init__(
        self,
        link: NatsLink,
        bucket: str,
        model: type[M],
        cache_path: Path | None = None,
        *,
        on_change: Callable[[str, M | None], None] | None = None,
        drift_seconds: float = _DRIFT_SECONDS,
    ) -> None:
        self._link = link
        self._bucket = bucket
        self._model = model
        self._cache_path = cache_path
        self._on_change = on_change
        self._drift_seconds = drift_seconds
        self._task: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._unkept = False
        self._wake_keeper = asyncio.Event()
        self._closing = asyncio.Event()
        self._ended = False
        self._resync = asyncio.Event()
        self._watcher: Any = None
        self._trouble: str | None = f"bucket {bucket}: not read yet"
        self._last_seen = 0
        self._from_cache = False
        self.values: dict[str, M] = {}
        self.revisions: dict[str, int] = {}
        self.refused: dict[str, str] = {}
        self.changed = asyncio.Condition()
        self.synced = asyncio.Event()

    async def start(self) -> None:
        """Read the local copy, if any, and begin to watch; `synced` follows when the bucket was read."""
        if self._task is None:
            self._read_cache()
            self._link.on_connected(self._wake)
            self._task = launch(self._follow(), f"kv-{self._bucket}", self._link.fail)
            if self._cache_path is not None:
                self._keeping = launch(self._keep(self._cache_path), f"kv-{self._bucket}-copy", self._link.fail)

    async def stop(self) -> None:
        """End the watch; `values` stay, on disk too."""
        self._ended = True
        await end(self._task)
        self._wake_keeper.set()
        self._closing.set()
        if self._keeping is not None:
            await asyncio.wait({self._keeping})
        self._task = self._keeping = None

    def check(self) -> str | None:
        """Readiness: None once the bucket was read, or when a local copy stands in for it."""
        if self.synced.is_set() or self._from_cache:
            return None
        return self._link.check() or self._trouble

    @property
    def live(self) -> bool:
        """True while the copy follows the broker."""
        return self._trouble is None and self._link.connected

    async def put(self, key: str, value: M | None, expected_revision: int | None = None) -> int:
        """Write a key, see `kv_put`; the copy changes when the watch brings it back."""
        return await kv_put(self._link, self._bucket, key, value, expected_revision=expected_revision)

    async def wait_for(self, predicate: Callable[[Mapping[str, M]], bool]) -> None:
        """Return when `predicate(values)` holds."""
        async with self.changed:
            await self.changed.wait_for(lambda: predicate(self.values))

    def _wake(self) -> None:
        # The watch of a broker that was away may be dead without a word; what it waits for may never come.
        self._resync.set()
        if self._watcher is not None:
            with suppress(asyncio.QueueFull):
                self._watcher._updates.put_nowait(self._watcher.STOP_ITER)  # noqa: SLF001

    async def _follow(self) -> None:
        await self._link.wait_connected()
        while not self._ended:
            self._resync.clear()
            try:
                await self._watch()
            except NotFoundError:
                self._trouble = f"bucket {self._bucket} does not exist: apply the topology"
                log.error("bucket missing", bucket=self._bucket)
            except (NatsError, OSError, FailedPrecondition, PermissionDenied) as error:
                self._trouble = f"bucket {self._bucket}: {error}"
                log.warning("bucket watch broke", bucket=self._bucket, reason=str(error))
            await asyncio.sleep(_RETRY_SECONDS if self._trouble else 0)

    async def _watch(self) -> None:
        bucket = await self._link.js.key_value(self._bucket)
        watcher = self._watcher = await bucket.watchall()
        fresh: dict[str, tuple[M, int]] | None = {}
        try:
            while not self._resync.is_set() and not self._ended:
                try:
                    entry = await asyncio.wait_for(watcher._updates.get(), self._drift_seconds)  # noqa: SLF001
                except TimeoutError:
                    if fresh is not None or await self._drifted():
                        log.warning("bucket moved without a word, reading it anew", bucket=self._bucket)
                        return
                    continue
                if entry is watcher.STOP_ITER:
                    return
                if entry is None:
                    await self._replace(fresh or {})
                    fresh = None
                    self._trouble = None
                    self.synced.set()
                elif fresh is not None:
                    self._gather(fresh, entry)
                else:
                    await self._apply(entry)
        finally:
            self._watcher = None
            if self._link.connected:
                await watcher.stop()

    async def _drifted(self) -> bool:
        if not self._link.connected:
            return False
        state = (await self._link.js.stream_info(kv_stream(self._bucket))).state
        if int(state.last_seq) > self._last_seen:
            return True
        # Entries past their ttl go without an update.
        return int(state.messages) < len(self.values)

    def _gather(self, fresh: dict[str, tuple[M, int]], entry: Any) -> None:
        self._last_seen = max(self._last_seen, entry.revision)
        if entry.operation in (KV_DEL, KV_PURGE):
            fresh.pop(entry.key, None)
            return
        parsed = self._parse(entry)
        if parsed is not None:
            fresh[entry.key] = (parsed, entry.revision)
        elif entry.key in self.values:
            fresh[entry.key] = (self.values[entry.key], self.revisions[entry.key])

    async def _replace(self, fresh: dict[str, tuple[M, int]]) -> None:
        before = self.values
        self.values = {key: value for key, (value, _) in fresh.items()}
        self.revisions = {key: revision for key, (_, revision) in fresh.items()}
        changed = {key for key in before.keys() | self.values.keys() if before.get(key) != self.values.get(key)}
        await self._announce(sorted(changed))

    async def _apply(self, entry: Any) -> None:
        self._last_seen = max(self._last_seen, entry.revision)
        if entry.operation in (KV_DEL, KV_PURGE):
            self.values.pop(entry.key, None)
            self.revisions.pop(entry.key, None)
        else:
            parsed = self._parse(entry)
            if parsed is None:
                return
            self.values[entry.key] = parsed
            self.revisions[entry.key] = entry.revision
        await self._announce([entry.key])

    def _parse(self, entry: Any) -> M | None:
        try:
            parsed = self._model.model_validate_json(entry.value or b"")
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            reason = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
            self.refused[entry.key] = reason
            log.error("value refused, the one before stays", bucket=self._bucket, entry=entry.key, reason=reason)
            return None
        self.refused.pop(entry.key, None)
        return parsed

    async def _announce(self, keys: list[str]) -> None:
        if not keys:
            return
        self._unkept = True
        self._wake_keeper.set()
        if self._on_change is not None:
            for key in keys:
                self._on_change(key, self.values.get(key))
        async with self.changed:
            self.changed.notify_all()

    async def _keep(self, path: Path) -> None:
        while not self._ended or self._unkept:
            if self._unkept:
                self._unkept = False
                await self._write_cache(path)
                # Changes that come one after another share a write: its fsync holds up whoever else uses the disk.
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), _KEEP_SECONDS)
            else:
                self._wake_keeper.clear()
                await self._wake_keeper.wait()

    async def _write_cache(self, path: Path) -> None:
        entries = {
            key: {"revision": self.revisions[key], "value": value.model_dump(mode="json")}
            for key, value in self.values.items()
        }
        try:
            await asyncio.to_thread(write_snapshot, path, self._bucket, entries)
        except OSError as error:
            # The copy on disk is for the next start; this process goes on with what it has in memory.
            log.error("local copy not written", path=str(path), reason=str(error))

    def _read_cache(self) -> None:
        if self._cache_path is None:
            return
        try:
            entries = read_snapshot(self._cache_path, self._bucket)
            if entries is None:
                return
            values = {key: self._model.model_validate(held["value"]) for key, held in entries.items()}
            revisions = {key: int(held["revision"]) for key, held in entries.items()}
        except (DataLoss, ValueError, KeyError, TypeError) as error:
            log.error("local copy not usable, ignored", path=str(self._cache_path), reason=str(error))
            return
        self.values, self.revisions = values, revisions
        self._from_cache = True
        log.info("started from local copy", bucket=self._bucket, entries=len(values))
        if self._on_change is not None:
            for key, value in sorted(values.items()):
                self._on_change(key, value)
