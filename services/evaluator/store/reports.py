"""Reports: begun, completed or failed, each exactly once."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, insert, select, update

from libs.contracts.commands import EvaluateModel
from libs.contracts.envelope import Envelope
from libs.contracts.errors import InvalidInput, NotFound
from libs.contracts.estimates import Estimate
from libs.contracts.events import EvaluationFailed, ReportCompleted
from libs.outbox.database import Database
from services.evaluator.domain.report import Report
from services.evaluator.store.rows import insert_new
from services.evaluator.store.tables import reports

CONSUMER = "evaluator-evaluate"
_MOST_SLICES = 100
RUNNING = "running"
COMPLETED = "completed"
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One report as listed; `turn_id` is empty for one that was asked for by hand."""

    report_id: str
    tenant: str
    task: str
    version: int
    state: str
    verdict: str
    report_digest: str
    reason: str
    turn_id: str


class Reports:
    """Reports of all tasks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, command: EvaluateModel) -> ReportRow:
        """The report of this command, begun now or before. InvalidInput when its id stands for another evaluation."""
        row = {
            "report_id": command.report_id,
            "tenant": command.tenant,
            "task": command.task,
            "version": command.candidate.version,
            "suite_digest": command.suite_digest,
            "state": RUNNING,
            "verdict": "",
            "report_digest": "",
            "reason": "",
            "started_at": time.time(),
            "turn_id": command.turn_id,
        }
        async with self._database.transaction() as session:
            await session.execute(insert_new(session, reports), [row])
            found = (await session.execute(select(reports).where(reports.c.report_id == command.report_id))).one()
        same = ("tenant", "task", "version", "suite_digest")
        if any(getattr(found, name) != row[name] for name in same):
            raise InvalidInput(f"report {command.report_id} is of another evaluation", field="report_id")
        return _row(found)

    async def complete(self, cause: Envelope[EvaluateModel], report: Report, digest: str) -> None:
        """End the report and say so; a second holder of the same command finds it done."""
        command = cause.data
        async with self._database.unit(cause, CONSUMER) as unit:
            if unit.already_handled:
                return
            await unit.session.execute(
                update(reports)
                .where(reports.c.report_id == command.report_id)
                .values(state=COMPLETED, verdict=report.verdict.value, report_digest=digest, ended_at=time.time())
            )
            unit.emit(
                ReportCompleted(
                    tenant=command.tenant,
                    task=command.task,
                    report_id=command.report_id,
                    report_digest=digest,
                    version=command.candidate.version,
                    verdict=report.verdict,
                    gates=report.gates,
                    arms=report.arms,
                    slices=_told(report.slices),
                ),
                output="report",
            )

    async def fail(self, cause: Envelope[EvaluateModel], reason: str) -> None:
        """End the report without a verdict and say why."""
        command = cause.data
        async with self._database.unit(cause, CONSUMER) as unit:
            if unit.already_handled:
                return
            known = await unit.session.scalar(select(reports.c.state).where(reports.c.report_id == command.report_id))
            if known is None:
                await unit.session.execute(
                    insert(reports),
                    [
                        {
                            "report_id": command.report_id, "tenant": command.tenant, "task": command.task,
                            "version": command.candidate.version, "suite_digest": command.suite_digest,
                            "state": FAILED, "verdict": "", "report_digest": "", "reason": reason,
                            "started_at": time.time(), "ended_at": time.time(), "turn_id": command.turn_id,
                        }
                    ],
                )  # fmt: skip
            elif known == RUNNING:
                await unit.session.execute(
                    update(reports)
                    .where(reports.c.report_id == command.report_id)
                    .values(state=FAILED, reason=reason, ended_at=time.time())
                )
            unit.emit(
                EvaluationFailed(
                    tenant=command.tenant,
                    task=command.task,
                    report_id=command.report_id,
                    version=command.candidate.version,
                    reason=reason,
                ),
                output="failure",
            )

    async def get(self, report_id: str) -> ReportRow:
        """One report; NotFound when there is none of that id."""
        async with self._database.reading() as session:
            found = (await session.execute(select(reports).where(reports.c.report_id == report_id))).one_or_none()
        if found is None:
            raise NotFound(f"no report {report_id!r}", field="report_id")
        return _row(found)

    async def of_task(self, task: str, limit: int = 200, turn_id: str = "") -> list[ReportRow]:
        """Reports of a task, newest first; of one turn where it is named."""
        newest = select(reports).where(reports.c.task == task).order_by(reports.c.started_at.desc()).limit(limit)
        if turn_id:
            newest = newest.where(reports.c.turn_id == turn_id)
        async with self._database.reading() as session:
            return [_row(row) for row in await session.execute(newest)]


def _told(slices: dict[str, dict[str, dict[str, Estimate]]]) -> dict[str, dict[str, dict[str, Estimate]]]:
    """The largest slices: a message has a greatest size, and the report itself holds them all."""

    def size(name: str) -> int:
        return max((each.n for by_metric in slices[name].values() for each in by_metric.values()), default=0)

    kept = sorted(slices, key=lambda name: (-size(name), name))[:_MOST_SLICES]
    return {name: slices[name] for name in sorted(kept)}


def _row(found: Row[Any]) -> ReportRow:
    return ReportRow(
        found.report_id,
        found.tenant,
        found.task,
        found.version,
        found.state,
        found.verdict,
        found.report_digest,
        found.reason,
        found.turn_id,
    )
