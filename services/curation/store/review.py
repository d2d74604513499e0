"""The review queue: items, the decisions on them, and what both mean for the next build."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, delete, func, select, update

from libs.contracts.errors import FailedPrecondition, InvalidInput, NotFound
from libs.outbox.database import Database
from libs.outbox.unit import UnitOfWork
from services.curation.domain.queue import SAID
from services.curation.domain.review import APPROVED, EDITED, KINDS, PENDING, REJECTED, STATES
from services.curation.store.dialect import insert, of
from services.curation.store.tables import REVIEW

SYNTHETIC = "synthetic"
_ASKED = (
    "item_id", "row_id", "kind", "reason", "input", "answer", "category", "suggestion", "doubt", "value", "lineage",
    "user",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """One question with its state; `new_*` hold what an edit put in place of the row's own."""

    item_id: str
    row_id: str
    kind: str
    state: str
    reason: str
    input: str
    answer: str
    category: str | None
    suggestion: str
    doubt: float
    value: float
    lineage: str
    dataset: int
    new_input: str | None
    new_answer: str | None
    new_category: str | None
    decided_by: str
    note: str
    created_at: float
    decided_at: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A reviewer's decision on an item."""

    item_id: str
    state: str
    by: str
    note: str = ""
    input: str | None = None
    answer: str | None = None
    category: str | None = None


async def ask(unit: UnitOfWork, tenant: str, task: str, questions: Sequence[Mapping[str, Any]], dataset: int) -> None:
    """Queue questions; one that was asked before gets its new value, suggestion and reason, and nothing else."""
    rows = [
        {
            "tenant": tenant, "task": task, "dataset": dataset, "state": PENDING, "decided_by": "", "note": "",
            "created_at": time.time(), **{name: question[name] for name in _ASKED},
        }
        for question in questions
    ]  # fmt: skip
    if not rows:
        return
    statement = insert(unit.session, REVIEW)
    newest = {name: statement.excluded[name] for name in ("value", "suggestion", "reason")}
    again = statement.on_conflict_do_update(index_elements=["tenant", "task", "item_id"], set_=newest)
    await unit.session.execute(again, rows)


async def listed(
    database: Database, tenant: str, task: str, *, state: str = PENDING, kind: str = "", limit: int = 100, skip: int = 0
) -> tuple[list[ReviewItem], int]:
    """Items of a state (empty: any), the most valuable first, and how many there are."""
    if state and state not in STATES:
        raise InvalidInput(f"{state!r} is no state; there are {', '.join(STATES)}", field="state")
    if kind and kind not in KINDS:
        raise InvalidInput(f"{kind!r} is no kind; there are {', '.join(KINDS)}", field="kind")
    where = [of(REVIEW, tenant, task)]
    where += [REVIEW.c.state == state] if state else []
    where += [REVIEW.c.kind == kind] if kind else []
    query = select(REVIEW).where(*where).order_by(REVIEW.c.value.desc(), REVIEW.c.item_id)
    async with database.reading() as session:
        total = (await session.execute(select(func.count()).select_from(REVIEW).where(*where))).scalar_one()
        rows = (await session.execute(query.limit(limit).offset(skip))).all()
    return [_item(row) for row in rows], int(total)


async def get(database: Database, tenant: str, task: str, item_id: str) -> ReviewItem:
    """One item; NotFound when there is none."""
    query = select(REVIEW).where(of(REVIEW, tenant, task), REVIEW.c.item_id == item_id)
    async with database.reading() as session:
        row = (await session.execute(query)).first()
    if row is None:
        raise NotFound(f"task {task!r} has no review item {item_id!r}", field="item_id")
    return _item(row)


async def decide(unit: UnitOfWork, tenant: str, task: str, verdict: Verdict) -> ReviewItem:
    """Record a decision; the last one stands until a build has used it and beyond. NotFound, InvalidInput.

    FailedPrecondition for an edit that changes nothing or empties the answer.
    """
    if verdict.state not in (APPROVED, EDITED, REJECTED):
        raise InvalidInput(f"{verdict.state!r} is no decision: approved, edited or rejected", field="state")
    if not verdict.by:
        raise InvalidInput("a decision needs a name", field="by")
    where = and_(of(REVIEW, tenant, task), REVIEW.c.item_id == verdict.item_id)
    row = (await unit.session.execute(select(REVIEW).where(where))).first()
    if row is None:
        raise NotFound(f"task {task!r} has no review item {verdict.item_id!r}", field="item_id")
    new: dict[str, str | None] = {"new_input": None, "new_answer": None, "new_category": None}
    if verdict.state == EDITED:
        given = {"new_input": verdict.input, "new_answer": verdict.answer, "new_category": verdict.category}
        old = {"new_input": row.input, "new_answer": row.answer, "new_category": row.category}
        new |= {name: value for name, value in given.items() if value is not None and value != old[name]}
        if all(value is None for value in new.values()):
            raise FailedPrecondition("the edit changes nothing; approve it instead", reason="EDIT_EMPTY", field="edit")
        if new["new_answer"] == "" or new["new_input"] == "":
            raise FailedPrecondition("an edit may not empty a text; reject it instead", reason="EDIT_EMPTY")
    values = {**new, "state": verdict.state, "decided_by": verdict.by, "note": verdict.note, "decided_at": time.time()}
    await unit.session.execute(update(REVIEW).where(where).values(**values))
    return _item((await unit.session.execute(select(REVIEW).where(where))).one())


async def decisions(database: Database, tenant: str, task: str) -> list[dict[str, Any]]:
    """The newest decision on each row that is not synthetic, as a build takes it, by row id."""
    query = (
        select(REVIEW)
        .where(of(REVIEW, tenant, task), REVIEW.c.kind != SYNTHETIC, REVIEW.c.state != PENDING)
        .order_by(REVIEW.c.decided_at, REVIEW.c.item_id)
    )
    async with database.reading() as session:
        rows = (await session.execute(query)).all()
    latest = {
        row.row_id: {
            "row_id": row.row_id, "state": row.state, "answer": row.new_answer, "category": row.new_category,
            "input": row.new_input, "by": row.decided_by,
        }
        for row in rows
    }  # fmt: skip
    return [latest[row_id] for row_id in sorted(latest)]


async def approved_synthetic(database: Database, tenant: str, task: str) -> list[dict[str, Any]]:
    """Synthetic candidates that somebody let in, as edited, by row id."""
    query = select(REVIEW).where(
        of(REVIEW, tenant, task), REVIEW.c.kind == SYNTHETIC, REVIEW.c.state.in_((APPROVED, EDITED))
    )
    async with database.reading() as session:
        rows = (await session.execute(query)).all()
    found = [
        {
            "row_id": row.row_id,
            "input": row.input if row.new_input is None else row.new_input,
            "answer": row.answer if row.new_answer is None else row.new_answer,
            "category": row.category if row.new_category is None else row.new_category,
            "lineage": row.lineage,
        }
        for row in rows
    ]
    return sorted(found, key=lambda each: str(each["row_id"]))


async def forget(unit: UnitOfWork, tenant: str, task: str, user: str, row_ids: Sequence[str]) -> int:
    """Delete what the queue holds of a user, of these rows, and of what was derived from them; counts items.

    A suggestion is another row's answer and may be his, and so may be what users said: all are taken back, and the next
    build tells them anew.
    """
    gone, named, mine = 0, set(row_ids), of(REVIEW, tenant, task)
    every = select(REVIEW.c.item_id, REVIEW.c.row_id, REVIEW.c.user, REVIEW.c.lineage, REVIEW.c.reason).where(mine)
    doomed = []
    for row in (await unit.session.execute(every)).all():
        reason, said, _ = row.reason.partition(SAID)
        if said:
            await unit.session.execute(
                update(REVIEW).where(mine, REVIEW.c.item_id == row.item_id).values(reason=reason)
            )
        seeds = set(json.loads(row.lineage).get("seeds", [])) if row.lineage else set()
        if row.user == user or row.row_id in named or seeds & named:
            doomed.append(row.item_id)
    for item_id in doomed:
        await unit.session.execute(delete(REVIEW).where(mine, REVIEW.c.item_id == item_id))
        gone += 1
    await unit.session.execute(update(REVIEW).where(mine).values(suggestion=""))
    return gone


def _item(row: Any) -> ReviewItem:
    return ReviewItem(**{name: getattr(row, name) for name in ReviewItem.__dataclass_fields__})
