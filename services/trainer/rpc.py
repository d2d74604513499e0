"""TrainerService: runs as they stand, as they would be, and made again."""

import json
from collections.abc import AsyncIterator
from typing import Any, Protocol

from pydantic import ValidationError

from libs.contracts.errors import InvalidInput, NotFound
from libs.contracts.stubs.pawl.trainer.v1 import trainer_pb2, trainer_pb2_grpc
from libs.contracts.task import TaskSpec
from services.trainer.domain.inquiry import Inquiry
from services.trainer.domain.protocol import Swept, Tried
from services.trainer.domain.runs import Run
from services.trainer.store import RunStore

SERVICE_NAME = "pawl.trainer.v1.TrainerService"
_TENANT = "default"


class Plans(Protocol):
    """Looks at runs before they are made."""

    async def plan(self, inquiry: Inquiry, device: str, prices: dict[str, Any] | None) -> dict[str, Any]:
        """The plan on a device."""

    async def mask(self, inquiry: Inquiry) -> dict[str, Any]:
        """Rows as they would be trained."""

    async def describe(self, run_id: str, *, estimate: bool) -> tuple[Run, dict[str, Any], list[dict[str, Any]]]:
        """A run, its manifest, its plan beside what came of it."""


class Sweeps(Protocol):
    """Tries recipes."""

    def sweep(self, inquiry: Inquiry) -> AsyncIterator[Tried | Swept]:
        """Yields every trial, then the best."""


class Makes(Protocol):
    """Makes ended runs again, and exports them."""

    def reproduce(self, run_id: str) -> AsyncIterator[tuple[int, int, bool | None, str]]:
        """Yields (step, steps, same, why)."""

    async def export(self, run_id: str, form: str = "") -> str:
        """Digest of the model, merged or in another form."""


class TrainerRpc(trainer_pb2_grpc.TrainerServiceServicer):
    """Translates between wire, store and workflows."""

    def __init__(self, store: RunStore, plans: Plans, makes: Makes, sweeps: Sweeps) -> None:
        self._sweeps = sweeps
        self._store = store
        self._plans = plans
        self._makes = makes

    async def GetRun(  # noqa: N802 - named by the proto
        self,
        request: trainer_pb2.GetRunRequest,
        context: Any,  # noqa: ARG002
    ) -> trainer_pb2.GetRunResponse:
        """One run; NotFound for one that never reached a trainer."""
        run = await self._store.get(_given(request.run_id))
        if run is None:
            raise NotFound(f"no run {request.run_id!r}", reason="RUN_NOT_FOUND", field="run_id")
        return trainer_pb2.GetRunResponse(run=to_wire(run))

    async def ListRuns(  # noqa: N802 - named by the proto
        self,
        request: trainer_pb2.ListRunsRequest,
        context: Any,  # noqa: ARG002
    ) -> trainer_pb2.ListRunsResponse:
        """Runs of a task, of all tasks without one, newest first."""
        runs = await self._store.of_task(request.task)
        return trainer_pb2.ListRunsResponse(runs=[to_wire(run) for run in runs])

    async def PlanRun(  # noqa: N802 - named by the proto
        self,
        request: trainer_pb2.PlanRunRequest,
        context: Any,  # noqa: ARG002
    ) -> trainer_pb2.PlanRunResponse:
        """What a run would be."""
        inquiry = Inquiry(
            request.tenant or _TENANT, _spec(request.spec_json), request.base_digest, request.dataset_digest,
            request.rows, request.mean_tokens, request.longest_tokens,
        )  # fmt: skip
        prices = _json(request.prices_json, "prices_json") if request.prices_json else None
        plan = await self._plans.plan(inquiry, request.device, prices)
        return trainer_pb2.PlanRunResponse(plan_json=json.dumps(plan))

    async def ShowMask(  # noqa: N802 - named by the proto
        self,
        request: trainer_pb2.ShowMaskRequest,
        context: Any,  # noqa: ARG002
    ) -> trainer_pb2.ShowMaskResponse:
        """Which tokens would train."""
        inquiry = Inquiry(
            request.tenant or _TENANT, _spec(request.spec_json), request.base_digest, request.dataset_digest,
            shown=request.rows or 3,
        )  # fmt: skip
        return trainer_pb2.ShowMaskResponse(mask_json=json.dumps(await self._plans.mask(inquiry)))

    async def DescribeRun(  # noqa: N802 - named by the proto
        self,
        request: trainer_pb2.DescribeRunRequest,
        context: Any,  # noqa: ARG002
    ) -> trainer_pb2.DescribeRunResponse:
        """A run with its manifest and comparison."""
        run, manifest, rows = await self._plans.describe(_given(request.run_id), estimate=request.estimate)
        return trainer_pb2.DescribeRunResponse(
            run=to_wire(run), manifest_json=json.dumps(manifest), comparison_json=json.dumps(rows)
        )

    async def ReproduceRun(  # noqa: N802 - named by the proto
        self,
        request: trainer_pb2.ReproduceRunRequest,
        context: Any,  # noqa: ARG002
    ) -> AsyncIterator[trainer_pb2.ReproduceRunResponse]:
        """Progress, then whether the bytes are the same."""
        async for step, total, same, why in self._makes.reproduce(_given(request.run_id)):
            yield trainer_pb2.ReproduceRunResponse(
                step=step, total_steps=total, done=same is not None, same=bool(same), reason=why
            )

    async def ExportRun(  # noqa: N802 - named by the proto
        self,
        request: trainer_pb2.ExportRunRequest,
        context: Any,  # noqa: ARG002
    ) -> trainer_pb2.ExportRunResponse:
        """The model of a run, merged or in four bits."""
        return trainer_pb2.ExportRunResponse(digest=await self._makes.export(_given(request.run_id), request.form))

    async def SweepRecipe(  # noqa: N802 - named by the proto
        self,
        request: trainer_pb2.SweepRecipeRequest,
        context: Any,  # noqa: ARG002
    ) -> AsyncIterator[trainer_pb2.SweepRecipeResponse]:
        """Every trial as it ends, then the best."""
        spec = _spec(request.spec_json)
        inquiry = Inquiry(request.tenant or _TENANT, spec, request.base_digest, request.dataset_digest)
        async for word in self._sweeps.sweep(inquiry):
            if isinstance(word, Swept):
                yield trainer_pb2.SweepRecipeResponse(
                    trial=word.best, values_json=json.dumps(word.values), loss=word.loss, done=True
                )
            else:
                yield trainer_pb2.SweepRecipeResponse(
                    trial=word.trial, trials=word.trials, values_json=json.dumps(word.values), loss=word.loss,
                    step=word.step, seconds=word.seconds, pruned=word.pruned, reason=word.why,
                )  # fmt: skip


def to_wire(run: Run) -> trainer_pb2.Run:
    """The message of a run."""
    return trainer_pb2.Run(
        run_id=run.run_id,
        task=run.task,
        status=run.status.value,
        epoch=run.epoch,
        step=run.step,
        total_steps=run.total_steps,
        loss=run.loss,
        tokens_per_second=run.tokens_per_second,
        eta_seconds=run.eta_seconds,
        resumed_at_step=run.resumed_at_step,
        adapter_digest=run.adapter_digest,
        reason=run.reason,
        pid=run.pid,
        turn_id=run.turn_id,
        run_manifest_digest=run.run_manifest_digest,
        details_json=json.dumps(run.details) if run.details else "",
    )


def _given(run_id: str) -> str:
    if not run_id:
        raise InvalidInput("run_id must be given", field="run_id")
    return run_id


def _spec(text: str) -> TaskSpec:
    try:
        return TaskSpec.model_validate_json(text)
    except ValidationError as error:
        raise InvalidInput(f"spec_json is no task: {error.errors()[0]['msg']}", field="spec_json") from error


def _json(text: str, field: str) -> dict[str, Any]:
    try:
        held = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"{field} is not JSON: {error}", field=field) from error
    if not isinstance(held, dict):
        raise InvalidInput(f"{field} is not an object", field=field)
    return held
