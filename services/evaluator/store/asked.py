"""Evaluations asked for by hand: kept until their report has ended, held by one process at a time."""

import time
from typing import Any

from sqlalchemy import delete, select, update

from libs.contracts.commands import EvaluateModel
from libs.outbox.database import Database
from services.evaluator.store.rows import insert_new
from services.evaluator.store.tables import asked


class AskedEvaluations:
    """Commands by report id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, command: EvaluateModel) -> None:
        """Keep a command; one of the same report id stays as it is."""
        row: dict[str, Any] = {
            "report_id": command.report_id,
            "command": command.model_dump(mode="json", by_alias=True),
            "asked_at": time.time(),
            "held_until": 0.0,
        }
        async with self._database.transaction() as session:
            await session.execute(insert_new(session, asked), [row])

    async def take(self, seconds: float) -> EvaluateModel | None:
        """The oldest command that nobody holds, held for `seconds`; None when there is none."""
        now = time.time()
        free = select(asked).where(asked.c.held_until < now).order_by(asked.c.asked_at).limit(1)
        async with self._database.transaction() as session:
            found = (await session.execute(free)).one_or_none()
            if found is None:
                return None
            held = await session.execute(
                update(asked)
                .where(asked.c.report_id == found.report_id, asked.c.held_until == found.held_until)
                .values(held_until=now + seconds)
            )
            taken = int(held.rowcount) == 1  # type: ignore[attr-defined]
        return EvaluateModel.model_validate(found.command) if taken else None

    async def hold(self, report_id: str, seconds: float) -> None:
        """Hold a command for `seconds` from now; 0 lets it go."""
        until = time.time() + seconds if seconds else 0.0
        async with self._database.transaction() as session:
            await session.execute(update(asked).where(asked.c.report_id == report_id).values(held_until=until))

    async def done(self, report_id: str) -> None:
        """Forget a command whose report has ended."""
        async with self._database.transaction() as session:
            await session.execute(delete(asked).where(asked.c.report_id == report_id))
