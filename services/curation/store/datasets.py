"""Dataset versions, suites and known segments."""

import json
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import and_, select, update

from libs.contracts.errors import NotFound, Unavailable
from libs.contracts.events import RewrittenSegment, SegmentWritten
from libs.outbox.database import Database
from libs.outbox.unit import UnitOfWork
from services.curation.store.dialect import insert, of
from services.curation.store.tables import DATASETS, SEGMENTS, SUITES, TASKS


@dataclass(frozen=True, slots=True)
class Suite:
    """A frozen suite and the dataset version that founded or extended it."""

    version: int
    digest: str
    items: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset version, or the refusal of one (`refused` says why, the digests are then empty).

    `quarantined` says why it must not be used any more.
    """

    tenant: str
    task: str
    number: int
    watermark: int
    digest: str = ""
    report_digest: str = ""
    suite_digest: str = ""
    suite_version: int = 0
    fractions: dict[str, float] = field(default_factory=dict)
    splits: dict[str, int] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)
    categories: dict[str, int] = field(default_factory=dict)
    refused: str | None = None
    ledger_digest: str = ""
    quarantined: str | None = None


_JSON = ("fractions", "splits", "removed", "categories")
_PLAIN = (
    "tenant",
    "task",
    "number",
    "watermark",
    "digest",
    "report_digest",
    "suite_digest",
    "suite_version",
    "refused",
    "ledger_digest",
    "quarantined",
)


async def learn_segment(unit: UnitOfWork, fact: SegmentWritten) -> None:
    """Remember that a segment exists; learning it twice is harmless."""
    values = {
        "tenant": fact.tenant, "task": fact.task, "number": fact.number, "digest": fact.digest, "rows": fact.rows,
    }  # fmt: skip
    await unit.session.execute(insert(unit.session, SEGMENTS).values(**values).on_conflict_do_nothing())


async def replace_segment(unit: UnitOfWork, tenant: str, task: str, given: RewrittenSegment) -> None:
    """Know a segment by its new digest; Unavailable while what it replaces is not known here yet."""
    mine = (of(SEGMENTS, tenant, task), SEGMENTS.c.number == given.number)
    changed = update(SEGMENTS).where(*mine, SEGMENTS.c.digest == given.before).values(digest=given.after)
    if (await unit.session.execute(changed)).rowcount:  # type: ignore[attr-defined]
        return
    known = await unit.session.scalar(select(SEGMENTS.c.digest).where(*mine))
    if known != given.after:
        raise Unavailable(f"segment {given.number} of {task} is not known as it was", reason="SEGMENTS_BEHIND")


async def read_segments(database: Database, tenant: str, digests: Collection[str]) -> set[str]:
    """Those of the objects that a segment lies in."""
    query = select(SEGMENTS.c.digest).where(SEGMENTS.c.tenant == tenant, SEGMENTS.c.digest.in_(sorted(digests)))
    async with database.reading() as session:
        return {str(each) for each in (await session.execute(query.distinct())).scalars()}


async def segments_to(database: Database, tenant: str, task: str, watermark: int) -> list[tuple[int, str]]:
    """Known segments (number, digest) up to `watermark`, rising."""
    query = (
        select(SEGMENTS.c.number, SEGMENTS.c.digest)
        .where(of(SEGMENTS, tenant, task), SEGMENTS.c.number <= watermark)
        .order_by(SEGMENTS.c.number)
    )
    async with database.reading() as session:
        return [(int(number), str(digest)) for number, digest in (await session.execute(query)).all()]


async def find(database: Database, tenant: str, task: str, number: int) -> Dataset | None:
    """The dataset version of that number, refused ones included."""
    query = select(DATASETS).where(of(DATASETS, tenant, task), DATASETS.c.number == number)
    async with database.reading() as session:
        row = (await session.execute(query)).first()
    return _dataset(row) if row is not None else None


async def get(database: Database, tenant: str, task: str, number: int) -> Dataset:
    """The version of that number, 0 for the newest built; NotFound when there is none."""
    if number:
        found = await find(database, tenant, task, number)
        if found is not None and found.refused is None:
            return found
        why = f": {found.refused}" if found is not None else ""
        raise NotFound(f"task {task!r} has no dataset {number}{why}", field="number")
    versions = await listed(database, tenant, task)
    if not versions:
        raise NotFound(f"task {task!r} has no dataset yet", field="task")
    return versions[0]


async def listed(database: Database, tenant: str, task: str, *, below: int | None = None) -> list[Dataset]:
    """Versions built, newest first; with `below` only smaller numbers."""
    query = (
        select(DATASETS)
        .where(of(DATASETS, tenant, task), DATASETS.c.refused.is_(None))
        .order_by(DATASETS.c.number.desc())
    )
    if below is not None:
        query = query.where(DATASETS.c.number < below)
    async with database.reading() as session:
        return [_dataset(row) for row in (await session.execute(query)).all()]


async def of_tenant(database: Database, tenant: str) -> list[Dataset]:
    """Versions built of every task of a tenant: equal objects of theirs are one object."""
    query = select(DATASETS).where(DATASETS.c.tenant == tenant, DATASETS.c.refused.is_(None))
    async with database.reading() as session:
        return [_dataset(row) for row in (await session.execute(query)).all()]


async def suite_now(database: Database, tenant: str, digest: str) -> tuple[str, str] | None:
    """Task and digest of the suite that an erasure put in place of this one; None where it put none."""
    query = (
        select(SUITES.c.task, DATASETS.c.suite_digest)
        .join(DATASETS, and_(DATASETS.c.tenant == SUITES.c.tenant, DATASETS.c.task == SUITES.c.task))
        .where(SUITES.c.tenant == tenant, SUITES.c.digest == digest, DATASETS.c.refused.is_(None))
        .order_by(DATASETS.c.number.desc())
    )
    async with database.reading() as session:
        newest = (await session.execute(query.limit(1))).first()
    return (str(newest[0]), str(newest[1])) if newest is not None and newest[1] != digest else None


def held_by(versions: Iterable[Dataset]) -> tuple[set[str], set[str]]:
    """Objects and trees that versions live by; a quarantined one by its ledger and its suite alone."""
    objects, trees = set[str](), set[str]()
    for each in versions:
        objects.add(each.ledger_digest)
        trees.add(each.suite_digest)
        if each.quarantined is None:
            objects.add(each.report_digest)
            trees.add(each.digest)
    return objects, trees


async def keep(unit: UnitOfWork, dataset: Dataset, suite: Suite | None) -> None:
    """Record a version, and its suite where it founded or extended one."""
    values: dict[str, Any] = {name: getattr(dataset, name) for name in _PLAIN}
    values |= {name: json.dumps(getattr(dataset, name), sort_keys=True) for name in _JSON}
    await unit.session.execute(insert(unit.session, DATASETS).values(**values, built_at=time.time()))
    if suite is not None:
        await unit.session.execute(
            insert(unit.session, SUITES).values(
                tenant=dataset.tenant, task=dataset.task, version=suite.version, digest=suite.digest,
                items=suite.items, dataset=dataset.number,
            )
        )  # fmt: skip


async def known_task(database: Database, tenant: str, task: str) -> None:
    """Return if anything is known of a task; NotFound else."""
    query = select(SEGMENTS.c.number).where(of(SEGMENTS, tenant, task)).limit(1)
    applied = select(TASKS.c.revision).where(of(TASKS, tenant, task))
    async with database.reading() as session:
        if (await session.execute(query)).first() is None and (await session.execute(applied)).first() is None:
            raise NotFound(f"curation knows no task {task!r}", field="task")


async def quarantine(unit: UnitOfWork, dataset: Dataset, why: str) -> None:
    """Mark a version as not to be used, under the digests it has from now on."""
    where = (of(DATASETS, dataset.tenant, dataset.task), DATASETS.c.number == dataset.number)
    await unit.session.execute(
        update(DATASETS)
        .where(*where)
        .values(
            quarantined=why, ledger_digest=dataset.ledger_digest, suite_digest=dataset.suite_digest,
            suite_version=dataset.suite_version,
        )
    )  # fmt: skip


async def add_suite(unit: UnitOfWork, tenant: str, task: str, suite: Suite, number: int) -> None:
    """Record a suite; one that is there already stays."""
    values = {
        "tenant": tenant, "task": task, "version": suite.version, "digest": suite.digest, "items": suite.items,
        "dataset": number,
    }  # fmt: skip
    await unit.session.execute(insert(unit.session, SUITES).values(**values).on_conflict_do_nothing())


def _dataset(row: Any) -> Dataset:
    plain = {name: getattr(row, name) for name in _PLAIN}
    return Dataset(**plain, **{name: json.loads(getattr(row, name)) for name in _JSON})
