"""Answers under the digest of all they depend on: a killed evaluation goes on, a later one asks only what is new."""

import time
from collections.abc import Mapping, Sequence

from sqlalchemy import and_, delete, func, or_, select, update

from libs.contracts.inference import Provenance
from libs.outbox.database import Database
from services.evaluator.domain.answers import Answer
from services.evaluator.store.rows import insert_or_replace
from services.evaluator.store.tables import kept_answers

_AT_ONCE = 500


class Answers:
    """Kept answers of all tasks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def known(self, tenant: str, keys: Sequence[str], report_id: str) -> dict[str, Answer]:
        """Answers that are there already, by key. A refusal counts for its own report only: it may have been healed."""
        found: dict[str, Answer] = {}
        for start in range(0, len(keys), _AT_ONCE):
            some = and_(kept_answers.c.tenant == tenant, kept_answers.c.key.in_(keys[start : start + _AT_ONCE]))
            usable = or_(kept_answers.c.error.is_(None), kept_answers.c.made_in == report_id)
            async with self._database.transaction() as session:
                for row in await session.execute(select(kept_answers).where(some, usable)):
                    found[row.key] = Answer(
                        item_id=row.item_id,
                        text=row.text,
                        provenance=Provenance.model_validate(row.provenance),
                        error=row.error,
                        prompt_tokens=row.prompt_tokens,
                        completion_tokens=row.completion_tokens,
                        seconds=row.seconds,
                        made_in=row.made_in,
                    )
                await session.execute(update(kept_answers).where(some, usable).values(used_at=time.time()))
        return found

    async def save(self, tenant: str, task: str, batch: Mapping[str, Answer]) -> None:
        """Keep answers by key; a later one takes the place of an earlier."""
        rows = [
            {
                "tenant": tenant,
                "key": key,
                "task": task,
                "item_id": answer.item_id,
                "text": answer.text,
                "error": answer.error,
                "provenance": answer.provenance.model_dump(),
                "prompt_tokens": answer.prompt_tokens,
                "completion_tokens": answer.completion_tokens,
                "seconds": answer.seconds,
                "made_in": answer.made_in,
                "used_at": time.time(),
            }
            for key, answer in batch.items()
        ]
        if rows:
            async with self._database.transaction() as session:
                await session.execute(insert_or_replace(session, kept_answers), rows)

    async def made_for(self, report_id: str) -> int:
        """How many answers were generated for a report."""
        count = select(func.count()).select_from(kept_answers).where(kept_answers.c.made_in == report_id)
        async with self._database.reading() as session:
            return int(await session.scalar(count) or 0)

    async def prune(self, before: float) -> int:
        """Drop what no report has used since `before` (seconds since 1970); returns how many."""
        async with self._database.transaction() as session:
            done = await session.execute(delete(kept_answers).where(kept_answers.c.used_at < before))
            return int(done.rowcount)  # type: ignore[attr-defined]

    async def forget(self, tenant: str, task: str, items: Sequence[str]) -> int:
        """Drop all answers to some items of a task, for the sake of whoever wrote them; returns how many."""
        gone = 0
        for start in range(0, len(items), _AT_ONCE):
            some = and_(
                kept_answers.c.tenant == tenant,
                kept_answers.c.task == task,
                kept_answers.c.item_id.in_(items[start : start + _AT_ONCE]),
            )
            async with self._database.transaction() as session:
                gone += int((await session.execute(delete(kept_answers).where(some))).rowcount)  # type: ignore[attr-defined]
        return gone
