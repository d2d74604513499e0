"""Segments made by hand, builds of them, and a running curation on a real broker and real object storage."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest_asyncio
from pydantic import SecretStr

from libs.artifacts import ObjectStore, TenantSecrets
from libs.contracts.commands import BuildDataset
from libs.contracts.envelope import envelop
from libs.contracts.errors import NotFound
from libs.contracts.events import DatasetBuilt, SegmentsRewritten, SegmentWritten, TaskApplied
from libs.contracts.task import SplitSpec, TaskSpec
from libs.eventing.connection import NatsLink
from libs.eventing.publish import publish
from libs.eventing.subscriptions import Consumers, Subscription
from libs.outbox.database import Database
from libs.outbox.migrate import migrate
from libs.outbox.relay import Relay
from libs.testing.wait import eventually
from services.curation.clients.endpoint import EndpointChat
from services.curation.clients.library import Library
from services.curation.compute.build import build
from services.curation.compute.pipeline import Version, curate
from services.curation.domain.rows import Row
from services.curation.domain.split import TRAIN, salt_of, split_of
from services.curation.domain.steps import Context
from services.curation.domain.suite import Item
from services.curation.handlers import BUILD, REWRITTEN, SEGMENTS, TASKS, Curator
from services.curation.handlers.building import Builder
from services.curation.rpc import CurationServicer, ReviewServicer
from services.curation.store import METADATA, policy
from services.curation.workflows.erasing import Erasing
from services.curation.workflows.looking import Looking
from services.curation.workflows.synthesising import Synthesis

START = datetime(2026, 1, 1, tzinfo=UTC)
TOPICS = ("printer", "router", "invoice", "password", "parcel", "screen", "backup", "license", "phone line", "calendar")
FAULTS = ("burns", "is lost", "came late", "will not open", "shows a blue light", "makes a loud noise", "smells odd")
SECRET = b"the secret of the tenant, by hand"
PLACES = ("in the kitchen", "at the harbour", "upstairs", "on the train", "next to my desk", "under the bridge")


ALL_TRAIN = {"split": {"train": 1.0, "validation": 0.0, "test": 0.0}}


def spec_of(**fields: Any) -> TaskSpec:
    """A task called triage with the given sections."""
    return TaskSpec.model_validate({"task": "triage", "base": "base", **fields})


def row(number: int, text: str, answer: str | None = "a", **fields: Any) -> Row:
    """The row that arrived as number `number`."""
    given: dict[str, Any] = {
        "kind": "example", "source": "crm", "signal": "good", "created_at": START + timedelta(minutes=number),
    }  # fmt: skip
    return Row(row_id=f"row-{number:05d}", input=text, answer=answer, **{**given, **fields})


def tickets(count: int, start: int = 0, **fields: Any) -> list[Row]:
    """Distinct tickets in words of their own, each a group of its own."""
    found = []
    for at in range(start, start + count):
        words = " ".join(f"{TOPICS[at % 10]}{chr(97 + at // 7 % 26)}{chr(97 + part * at % 26)}" for part in range(1, 6))
        text = f"{words} {FAULTS[at % 7]} {PLACES[at % 6]} {chr(97 + at % 26)}{chr(97 + at // 26 % 26)}x"
        found.append(row(at, text, f"answer {at % 4}", **{"category": f"c{at % 4}", "group": f"own-{at}", **fields}))
    return found


def build_rows(rows: Sequence[Row], suite: Sequence[Item] | None = None, **fields: Any) -> Version:
    """A version of the rows, without I/O."""
    return curate(rows, context_for(suite, **fields))


def context_for(suite: Sequence[Item] | None = None, known: Mapping[str, Any] | None = None, **fields: Any) -> Context:
    """What the steps may know under a spec of the given sections; `known` adds to it."""
    spec = spec_of(**fields)
    salt = salt_of("default", spec.task)
    return Context(spec, "default", salt, SECRET, spec.data.split, suite=suite, **(known or {}))


def train_group() -> str:
    """A group whose rows train."""
    salt = salt_of("default", "triage")
    return next(name for name in map(str, range(99)) if split_of(salt, f"g:{name}", SplitSpec()) == TRAIN)


def built(rows: list[Row], known: dict[str, Any] | None = None, **curation: Any) -> Version:
    """All rows train, under this policy of curation."""
    return curate(rows, context_for(known=known, data={**ALL_TRAIN, "curation": curation}))


def only(version: Version) -> Row:
    (kept,) = version.splits[TRAIN]
    return kept


def write_segment(path: Path, rows: Sequence[Row]) -> Path:
    """A segment file as ingestion writes it."""
    schema = {
        "row_id": pl.String, "kind": pl.String, "source": pl.String, "input": pl.String, "system": pl.String,
        "history": pl.String, "output": pl.String, "category": pl.String, "group": pl.String, "request_id": pl.String,
        "signal": pl.String, "consent": pl.Boolean, "created_at": pl.Datetime("us", "UTC"), "user": pl.String,
        "licence": pl.String, "rejected": pl.String, "review": pl.String, "subject": pl.String,
        "tools": pl.String, "comment": pl.String, "revision": pl.Int64, "judgement": pl.String,
    }  # fmt: skip
    names = {name: "answer" if name == "output" else name for name in schema}
    pl.DataFrame(
        [{name: getattr(each, at) for name, at in names.items()} for each in rows], schema=schema
    ).write_parquet(path)
    return path


def build_files(
    home: Path, rows: Sequence[Row], *, secret: bytes = SECRET, given: Mapping[str, Any] | None = None, **fields: Any
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Run the whole build, with more of a request `given`; returns its result and the bytes of every file written."""
    home.mkdir()
    spec = spec_of(**fields).model_dump(mode="json", by_alias=True)
    segment = str(write_segment(home / "s.parquet", rows))
    request = {
        "tenant": "default", "secret": secret.hex(), "number": 1, "watermark": 1, "spec": spec,
        "segments": [(1, segment)], "fractions": None, "suite": None, "suite_version": 0,
        "out": str(home / "out"), "result": "", **(given or {}),
    }  # fmt: skip
    result = build(request)
    files = sorted(path for path in (home / "out").rglob("*") if path.is_file())
    return result, {str(path.relative_to(home / "out")): path.read_bytes() for path in files}


@dataclass
class House:
    """One replica of curation that consumes."""

    link: NatsLink
    objects: ObjectStore
    database_url: str
    home: Path
    segments: int = 0

    async def start(self) -> "House":
        await migrate(self.database_url, "services.curation")
        self.database = Database(self.database_url, metadata=METADATA, service="curation")
        await self.database.open()
        self.relay = Relay(self.database, self.link)
        await self.relay.start()
        secrets = TenantSecrets(self.objects.for_tenant, SecretStr(""), settled=0.0)
        self.library = Library(self.objects.for_tenant, self.home / "segments", secrets)
        self.models = httpx.AsyncClient(trust_env=False)
        self.chat = EndpointChat(self.models, "teacher-key")
        self.builder = Builder(self.database, self.library, self.chat, self.home / "work")
        self.curator = Curator(self.database, self.builder)
        errands = self.home / "errands"
        self.looking = Looking(self.database, self.library, errands)
        self.erasing = Erasing(self.database, self.library, errands)
        self.synthesis = Synthesis(self.database, self.library, self.chat, errands)
        self.rpc = CurationServicer(
            self.database, self.objects.for_tenant, looking=self.looking, erase=self.erasing.erase, tenant="default"
        )
        self.reviews = ReviewServicer(self.database, write=self.synthesis.write, tenant="default")
        self.consumers = Consumers(
            self.link,
            [
                Subscription(SEGMENTS, SegmentWritten, self.curator.learn_segment),
                Subscription(REWRITTEN, SegmentsRewritten, self.curator.learn_rewritten),
                Subscription(TASKS, TaskApplied, self.curator.learn_task),
                Subscription(
                    BUILD, BuildDataset, self.curator.build, long_running=True, on_dead=self.curator.refuse_dead
                ),
            ],
            service="curation",
        )
        await self.consumers.start()
        return self

    async def stop(self) -> None:
        await self.consumers.stop()
        await self.relay.stop()
        await self.models.aclose()
        await self.database.close()

    async def segment(self, rows: Sequence[Row], *, announce: bool = True) -> SegmentWritten:
        self.segments += 1
        digest = await self.objects.put_file(
            write_segment(self.home / f"{self.segments}.parquet", rows), kind="segment"
        )
        fact = SegmentWritten(
            tenant="default",
            task="triage",
            number=self.segments,
            digest=digest,
            rows=len(rows),
            kinds={"example": len(rows)},
        )
        if announce:
            await self.say(fact)
        return fact

    async def say(self, payload: Any, **given: Any) -> Any:
        envelope = envelop(payload, source="test", **given)
        await publish(self.link.js, envelope)
        return envelope

    async def apply(self, *, base: str = "sha256:" + "0" * 64, revision: int = 1, **fields: Any) -> None:
        """Tell curation of the task, as the registry does."""
        spec = spec_of(**fields)
        await self.say(TaskApplied(tenant="default", task="triage", revision=revision, spec=spec, base_digest=base))

        async def known() -> bool:
            try:
                found = await policy.applied(self.database, "default", "triage")
            except NotFound:
                return False
            return found.spec == spec

        await eventually(known, 10)

    async def built(self, rows: Sequence[Row], number: int = 1, **fields: Any) -> DatasetBuilt:
        """Dataset `number` of everything there is, after one more segment of these rows."""
        before = len(await self.facts())
        if rows:
            await self.segment(rows)
        await self.ask(number, watermark=self.segments, **fields)
        return DatasetBuilt.model_validate((await self.answers(before + 1))[-1][1])

    async def ask(self, number: int, watermark: int, **fields: Any) -> Any:
        command = BuildDataset(
            tenant="default",
            task="triage",
            turn_id=f"turn-{number}",
            spec=spec_of(**fields),
            number=number,
            watermark=watermark,
        )
        return await self.say(command, turn_id=f"turn-{number}")

    async def facts(self) -> list[tuple[str, dict[str, Any], dict[str, str]]]:
        state = (await self.link.js.stream_info("EVT")).state
        messages = [await self.link.js.get_msg("EVT", seq) for seq in range(1, state.last_seq + 1)]
        return [
            (str(each.subject), json.loads(each.data or b"{}"), dict(each.headers or {}))
            for each in messages
            if str(each.subject).startswith("evt.curation.")
        ]

    async def answers(self, count: int) -> list[tuple[str, dict[str, Any], dict[str, str]]]:
        async def there() -> list[Any]:
            found = await self.facts()
            return found if len(found) >= count else []

        return list(await eventually(there, 30))


@pytest_asyncio.fixture
async def house(link: NatsLink, object_store: ObjectStore, database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    """A curation that consumes."""
    opened = await House(link, object_store, database_url, tmp_path).start()
    yield opened
    await opened.stop()
