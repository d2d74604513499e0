"""Evaluations asked for by hand: reports that decide nothing, made by the same code as those that do."""

import asyncio
import json
from typing import Any

from pydantic import ValidationError

from libs.artifacts import ObjectStore
from libs.contracts.commands import Contender, EvaluateModel
from libs.contracts.envelope import envelop
from libs.contracts.errors import InvalidInput, NotFound, Transient
from libs.contracts.ids import check_name, new_id
from libs.contracts.inference import Role
from libs.contracts.routes import Arm
from libs.contracts.task import EvaluationSpec, TaskSpec
from libs.telemetry import get_logger
from services.evaluator.clients.lookup import Lookup
from services.evaluator.handlers.evaluation import Evaluation
from services.evaluator.store import Reports
from services.evaluator.store.asked import AskedEvaluations
from services.evaluator.store.reports import RUNNING, ReportRow

log = get_logger(__name__)

_HELD_SECONDS = 30.0
_LOOK_SECONDS = 1.0
_REST_SECONDS = 5.0


class AskedFor:
    """Takes evaluations asked for by hand and works them off, one at a time."""

    def __init__(
        self, asked: AskedEvaluations, reports: Reports, evaluation: Evaluation, lookup: Lookup, objects: ObjectStore
    ) -> None:
        self._asked = asked
        self._reports = reports
        self._evaluation = evaluation
        self._lookup = lookup
        self._objects = objects

    async def ask(
        self, tenant: str, task: str, version: int, suite_digest: str, evaluation_json: str, report_id: str
    ) -> ReportRow:
        """Begin a report on a version that the route holds; asking again under the same id changes nothing.

        Raises NotFound for an unknown task or version, InvalidInput for an evaluation section or id that is wrong.
        """
        check_name(task, "task")
        applied = await self._lookup.task(tenant, task)
        route = await self._lookup.route(tenant, task)
        arms = {arm.version: arm for arm in route.arms}
        if version not in arms:
            there = ", ".join(f"{task}@{number}" for number in sorted(arms))
            raise NotFound(f"{task}@{version} is not in the route; there are {there}", field="version")
        stable = next((arm for arm in route.arms if arm.role is Role.STABLE), arms[version])
        known = await self._known(task)
        suite = suite_digest or known.get("suite_digest", "")
        if not suite:
            raise InvalidInput(f"{task} has no report whose suite could be used: name a suite", field="suite_digest")
        command = EvaluateModel(
            tenant=tenant,
            task=task,
            turn_id="",
            spec=_spec(applied.spec, evaluation_json),
            report_id=check_name(report_id, "report_id") if report_id else new_id("asked"),
            candidate=_contender("fine_tuned", arms[version]),
            baselines=(
                Contender(name="base", version=0, digest=applied.base_digest),
                _contender("stable", stable),
            ),
            suite_digest=suite,
            dataset_digest=known.get("dataset_digest", ""),
        )
        await self._asked.add(command)
        return await self._reports.begin(command)

    async def run(self) -> None:
        """Work off what was asked for; what a killed process began is taken up when its hold has run out."""
        while True:
            try:
                command = await self._asked.take(_HELD_SECONDS)
                if command is None:
                    await asyncio.sleep(_LOOK_SECONDS)
                    continue
                await self._work(command)
            except Transient as error:
                log.warning("evaluation asked for is tried again", reason=str(error))
                await asyncio.sleep(_REST_SECONDS)

    async def _work(self, command: EvaluateModel) -> None:
        holding = asyncio.create_task(self._hold(command.report_id))
        ended = False
        try:
            envelope = envelop(command, source="evaluator", id=command.report_id, tenant=command.tenant)
            await self._evaluation.handle(envelope)
            ended = (await self._reports.get(command.report_id)).state != RUNNING
        finally:
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)
            if not ended:
                await asyncio.shield(self._asked.hold(command.report_id, 0.0))
        if ended:
            await self._asked.done(command.report_id)

    async def _hold(self, report_id: str) -> None:
        while True:
            await asyncio.sleep(_HELD_SECONDS / 3)
            try:
                await self._asked.hold(report_id, _HELD_SECONDS)
            except Transient as error:
                log.warning("the hold on an evaluation was not prolonged", report_id=report_id, reason=str(error))

    async def _known(self, task: str) -> dict[str, Any]:
        """Suite and dataset of the newest report of a task."""
        for row in await self._reports.of_task(task):
            if row.report_digest:
                document = json.loads(await self._objects.for_tenant(row.tenant).get_bytes(row.report_digest))
                passport: dict[str, Any] = document["passport"]
                return passport
        return {}


def _contender(name: str, arm: Arm) -> Contender:
    return Contender(name=name, version=arm.version, digest=arm.digest)


def _spec(spec: TaskSpec, evaluation_json: str) -> TaskSpec:
    if not evaluation_json:
        return spec
    try:
        evaluation = EvaluationSpec.model_validate_json(evaluation_json)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(["evaluation", *(str(part) for part in first["loc"])])
        raise InvalidInput(f"{place}: {first['msg']}", field=place) from error
    return spec.model_copy(update={"evaluation": evaluation})
