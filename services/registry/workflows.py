"""Keeps the buckets true: what the database says is put back where NATS lost it, and API keys follow their file."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import yaml
from nats.errors import Error as NatsError
from nats.js.errors import NoKeysError
from pydantic import TypeAdapter, ValidationError

from libs.contracts.errors import InvalidInput, Transient
from libs.contracts.ids import new_id
from libs.contracts.routes import ApiKey, RunState, RunWish
from libs.contracts.subjects import KEYS, ROUTES, RULES, RUNS, TASKS, task_key
from libs.contracts.task.routing import RoutingRules
from libs.eventing.connection import NatsLink
from libs.eventing.kv import Entry, kv_advance, kv_get, kv_put
from libs.eventing.publish import translate
from libs.telemetry import current_traceparent, get_logger, new_traceparent
from services.registry.domain.applying import applied_fact
from services.registry.domain.decision import Decision, PutTask, Record
from services.registry.domain.routing import compose, reroute
from services.registry.domain.state import Occasion, Task
from services.registry.store import Store
from services.registry.store.reading import get_task, task_names

log = get_logger(__name__)

_RETRY_SECONDS = 1.0
_RULES: TypeAdapter[tuple[RoutingRules, ...]] = TypeAdapter(tuple[RoutingRules, ...])
_KEYS: TypeAdapter[tuple[ApiKey, ...]] = TypeAdapter(tuple[ApiKey, ...])


class Keeper:
    """Mends the buckets at start and whenever the connection stands anew."""

    def __init__(self, store: Store, link: NatsLink, keys: Path | None, rules: Path | None = None) -> None:
        self._store = store
        self._link = link
        self._path = keys
        self._rules = rules
        self._keys_seen: tuple[int, int] | None = None
        self._rules_seen: tuple[int, int] | None = None
        self._due = asyncio.Event()
        self._trouble: str | None = "buckets: not looked at yet"

    def check(self) -> str | None:
        """Readiness: None once the buckets were found or made right."""
        return self._link.check() or self._trouble

    async def run(self, poll_seconds: float) -> None:
        """Mend when due, follow the keys file besides; survives NATS and database being away."""
        self._link.on_connected(self._due.set)
        self._due.set()
        await self._link.wait_connected()
        while True:
            try:
                if self._due.is_set():
                    self._due.clear()
                    self._keys_seen = self._rules_seen = None
                    await self.mend()
                await self.follow_keys()
                await self.follow_rules()
                self._trouble = None
            except (Transient, InvalidInput) as error:
                if self._trouble is None or str(error) not in self._trouble:
                    log.warning("buckets not mended yet", reason=str(error))
                self._trouble = f"buckets: {error}"
                self._due.set()
                await asyncio.sleep(_RETRY_SECONDS)
            await asyncio.sleep(poll_seconds)

    async def mend(self) -> None:
        """Put routes, tasks and wishes about open runs where they are missing or old."""
        async with self._store.reading() as session:
            names = await task_names(session)
        for tenant, name in names:
            await self._mend(tenant, name)

    async def _mend(self, tenant: str, name: str) -> None:
        key = task_key(tenant, name)
        task = await self._task(tenant, name)
        route, applied = await kv_get(self._link, ROUTES, key), await kv_get(self._link, TASKS, key)
        if _ahead(task, route, applied):
            # It may have been decided and published since we read it; the database is written first, so look again.
            task = await self._task(tenant, name)
        if _ahead(task, route, applied):
            # The database is older than the bucket: it was restored from a backup. Numbers must not run backwards, or
            # no gateway would ever take a route from us again.
            log.error("bucket is ahead of the database", task=name, route=route.generation, known=task.generation)
            await self._catch_up(task, route.generation or 0, applied.generation or 0)
            return
        if await kv_advance(self._link, TASKS, key, applied_fact(task).model_dump_json().encode(), task.revision):
            log.warning("task put back", task=name, revision=task.revision)
        if await kv_advance(self._link, ROUTES, key, compose(task).model_dump_json().encode(), task.generation):
            log.warning("route put back", task=name, generation=task.generation)
        turn = task.open_turn
        if turn is not None and turn.wish is not RunWish.RUN:
            wish = RunState(run_id=turn.run_id, wish=turn.wish, by="registry", reason=turn.reason)
            await kv_advance(self._link, RUNS, turn.run_id, wish.model_dump_json().encode(), turn.wish_number)

    async def _task(self, tenant: str, name: str) -> Task:
        async with self._store.reading() as session:
            return await get_task(session, tenant, name)

    async def _catch_up(self, task: Task, generation: int, revision: int) -> None:
        occasion_id = new_id("restore")

        def raise_numbers(task: Task) -> Decision:
            raised = replace(
                task,
                generation=max(task.generation, generation),
                revision=max(task.revision, revision + 1),
            )
            evidence = {"generation": generation, "revision": revision}
            record = Record("numbers_raised", "registry", "the buckets were ahead of the database", "", evidence)
            return Decision(raised, (record, PutTask(applied_fact(raised)))).then(reroute)

        occasion = Occasion(occasion_id, datetime.now(UTC), current_traceparent() or new_traceparent())
        await self._store.decide(task.tenant, task.name, occasion, raise_numbers)

    async def follow_keys(self) -> None:
        """Make the bucket of keys equal to the file, when the file changed since the last look."""
        if self._path is None:
            return
        try:
            stat = await asyncio.to_thread(self._path.stat)
        except OSError as error:
            raise InvalidInput(f"{self._path}: {error.strerror}", field="PAWL_REGISTRY_KEYS") from error
        seen = (stat.st_mtime_ns, stat.st_size)
        if seen == self._keys_seen:
            return
        wanted = {key.key_hash: key for key in await asyncio.to_thread(read_keys, self._path)}
        for name in await self._held() - wanted.keys():
            await kv_put(self._link, KEYS, name, None)
            log.info("api key withdrawn", hash=name[:8])
        for name, key in wanted.items():
            held = await kv_get(self._link, KEYS, name)
            if held.value != key.model_dump_json().encode():
                await kv_put(self._link, KEYS, name, key, expected_revision=held.revision)
                log.info("api key announced", client=key.name, hash=name[:8])
        self._keys_seen = seen

    async def follow_rules(self) -> None:
        """Make the bucket of routing rules equal to the file, when the file changed since the last look."""
        if self._rules is None:
            return
        try:
            stat = await asyncio.to_thread(self._rules.stat)
        except OSError as error:
            raise InvalidInput(f"{self._rules}: {error.strerror}", field="PAWL_REGISTRY_RULES") from error
        seen = (stat.st_mtime_ns, stat.st_size)
        if seen == self._rules_seen:
            return
        wanted = {each.tenant: each for each in await asyncio.to_thread(read_rules, self._rules)}
        for tenant in await self._held(RULES) - wanted.keys():
            await kv_put(self._link, RULES, tenant, None)
            log.info("routing rules withdrawn", tenant=tenant)
        for tenant, rules in wanted.items():
            held = await kv_get(self._link, RULES, tenant)
            if held.value != rules.model_dump_json().encode():
                await kv_put(self._link, RULES, tenant, rules, expected_revision=held.revision)
                log.info("routing rules announced", tenant=tenant, rules=len(rules.rules))
        self._rules_seen = seen

    async def _held(self, name: str = KEYS) -> set[str]:
        try:
            bucket = await self._link.js.key_value(name)
            return set(await bucket.keys())
        except NoKeysError:
            return set()
        except (NatsError, OSError) as error:
            raise translate(error, KEYS, self._link.js) from error


def _ahead(task: Task, route: Entry, applied: Entry) -> bool:
    return (route.generation or 0) > task.generation or (applied.generation or 0) > task.revision


def read_rules(path: Path) -> tuple[RoutingRules, ...]:
    """The routing rules in a YAML file, one document per tenant; InvalidInput names the file and the place."""
    try:
        documents = list(yaml.safe_load_all(path.read_text()))
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}", field="PAWL_REGISTRY_RULES") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InvalidInput(f"{where}: not YAML: {error}", field="PAWL_REGISTRY_RULES") from error
    try:
        rules = _RULES.validate_python([each for each in documents if each is not None])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{path}: document {where}: {first['msg']}", field="PAWL_REGISTRY_RULES") from error
    if len({each.tenant for each in rules}) < len(rules):
        raise InvalidInput(f"{path}: two documents for one tenant", field="PAWL_REGISTRY_RULES")
    return rules


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """The API keys in a file; InvalidInput names the file, the entry and the field that is wrong."""
    try:
        keys = _KEYS.validate_python(json.loads(path.read_text()))
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}", field="PAWL_REGISTRY_KEYS") from error
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{path}:{error.lineno}: not JSON: {error.msg}", field="PAWL_REGISTRY_KEYS") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{path}: entry {where}: {first['msg']}", field="PAWL_REGISTRY_KEYS") from error
    for index, key in enumerate(keys):
        if len(key.key_hash) != 64 or set(key.key_hash) - set("0123456789abcdef"):
            raise InvalidInput(
                f"{path}: entry {index}.key_hash: must be 64 hex digits of sha256", field="PAWL_REGISTRY_KEYS"
            )
    return keys
