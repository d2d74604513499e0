"""The live view and the recomputing of evidence over gRPC: translates only."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from libs.artifacts import ObjectStore
from libs.contracts.errors import DataLoss, InvalidInput, NotFound
from libs.contracts.stubs.pawl.evaluator.v1 import live_pb2 as pb
from libs.contracts.stubs.pawl.evaluator.v1 import live_pb2_grpc
from services.evaluator.domain import admission
from services.evaluator.domain.campaign import CLOSED
from services.evaluator.domain.campaign_record import Everything, troubles_of
from services.evaluator.domain.campaign_standing import standing_of
from services.evaluator.domain.drift_inputs import drifts
from services.evaluator.domain.evidence import Check
from services.evaluator.domain.live_drop import DropState, recheck
from services.evaluator.domain.live_metrics import metrics_of, shadow_of
from services.evaluator.domain.recheck import recheck as recheck_report
from services.evaluator.store import Ledger, Reports
from services.evaluator.store.campaigns import Campaigns
from services.evaluator.store.live import Live, LiveTask
from services.evaluator.store.live_readings import LiveReadings

SERVICE = "pawl.evaluator.v1.LiveService"
register = live_pb2_grpc.add_LiveServiceServicer_to_server
_MOST_SECONDS = 30 * 86_400.0
_MOST_REPORTS = 10
_MOST_CAMPAIGNS = 20


class LiveServicer(live_pb2_grpc.LiveServiceServicer):
    """Answers what production shows and whether decisions follow from their evidence.

    `state` tells how the drop watch of (tenant, task) stands.
    """

    def __init__(
        self,
        live: Live,
        readings: LiveReadings,
        ledger: Ledger,
        state: Callable[[str, str], DropState | None],
        reports: Reports,
        objects: ObjectStore,
        campaigns: Campaigns,
    ) -> None:
        self._live = live
        self._readings = readings
        self._ledger = ledger
        self._state = state
        self._reports = reports
        self._objects = objects
        self._campaigns = campaigns

    async def GetLive(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002 - named by the protocol
        """The live view of a task."""
        if not 0.0 <= request.seconds <= _MOST_SECONDS:
            raise InvalidInput("look back over at most 30 days", field="seconds")
        task = next((task for task in await self._live.tasks() if task.task == request.task), None)
        if task is None:
            raise NotFound(f"no task {request.task!r} is known here", field="task")
        return pb.GetLiveResponse(live_json=json.dumps(await self._told(task, request.seconds), allow_nan=False))

    async def VerifyEvidence(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Every conclusion, computed again."""
        checks = await self._ledger.verify(request.task, request.turn_id)
        if not request.turn_id:
            checks += await self._drops(request.task)
        checks += await self._verdicts(request.task, request.turn_id)
        if not request.turn_id:
            checks += await self._votes(request.task)
        return pb.VerifyEvidenceResponse(checks=[_check(each) for each in checks])

    async def _told(self, task: LiveTask, seconds: float) -> dict[str, Any]:
        whose, live = (task.tenant, task.task), task.spec.rollout.live
        span = seconds or live.span_seconds
        since = time.time() - span
        stable = await self._readings.stable_version(*whose)
        asked = await self._readings.asked(*whose, stable, live.reference_users) if stable is not None else ([], [])
        state = self._state(*whose)
        return {
            "task": task.task,
            "seconds": span,
            "stable": stable,
            # Off the loop: an hour of much traffic takes a while, and canaries are assessed meanwhile.
            "versions": await asyncio.to_thread(metrics_of, await self._readings.served(*whose, since)),
            "shadow": await asyncio.to_thread(shadow_of, await self._readings.mirrored(*whose, since)),
            "drift": {
                "reference_users": len(asked[0]),
                "current_users": len(asked[1]),
                "traits": await asyncio.to_thread(drifts, *asked, live.drift_index),
            },
            "drop_watch": asdict(state) if state is not None else None,
            "drops": [document for document, _, _ in await self._live.drops(task.task)][-20:],
            "lateness": await self._readings.lateness(*whose, since, live.window_seconds + live.delay_seconds),
            "windows": task.windows,
        }

    async def _verdicts(self, task: str, turn_id: str) -> list[Check]:
        """The gates of the newest reports, or of a turn's, decided again from their items."""
        checks = []
        rows = await self._reports.of_task(task, turn_id=turn_id)
        for row in [each for each in rows if each.report_digest][:_MOST_REPORTS][::-1]:
            try:
                document = json.loads(await self._objects.for_tenant(row.tenant).get_bytes(row.report_digest))
                found = await asyncio.to_thread(recheck_report, document)
                if found is not None:
                    found += await self._judges(document)
            except NotFound:
                found = None  # an object whose time was up
            except DataLoss as error:
                found = [str(error)]
            finding = "pruned" if found is None else "different" if found else "equal"
            about = {"report_id": row.report_id, "report_digest": row.report_digest}
            what = f"report {row.report_id}"
            checks.append(Check(row.turn_id, "report", what, row.verdict, finding, tuple(found or ()), about))
        return checks

    async def _judges(self, document: dict[str, Any]) -> list[str]:
        """Where the report's word on its judges differs from what the experts' votes say again."""
        found = []
        kinds = {metric["name"]: metric["kind"] for metric in document["evaluation"]["metrics"]}
        for name, told in (document.get("judges") or {}).items():
            if told.get("seen"):
                try:
                    whole = await self._campaigns.everything(told["seen"]["campaign"])
                except NotFound as error:
                    found.append(f"{name}: {error}")
                else:
                    found += await asyncio.to_thread(admission.recheck, told, whole, name, kinds[name])
        return found

    async def _votes(self, task: str) -> list[Check]:
        """The newest campaigns: order and texts against the commitment, ballots against their chain."""
        checks = []
        for campaign in (await self._campaigns.listed(task, _MOST_CAMPAIGNS))[::-1]:
            whole = await self._campaigns.everything(campaign.campaign_id)
            checks.append(await asyncio.to_thread(_campaign_check, whole))
        return checks

    async def _drops(self, task: str) -> list[Check]:
        checks = []
        for document, spec, began_after in await self._live.drops(task):
            windows = await self._live.windows(document["tenant"], task, began_after, document["last_window"])
            found = recheck(document, spec.triggers.on_drop, spec.rollout.live.reference_users, windows)
            width = spec.rollout.live.window_seconds
            seen = (document["first_window"], document["last_window"])
            found += await self._readings.misjudged(document["tenant"], task, *seen, width)
            finding = "different" if found else "equal"
            what = f"drop #{document['number']}"
            checks.append(Check("", "drop", what, "drop", finding, tuple(found), document))
        return checks


def _campaign_check(whole: Everything) -> Check:
    campaign = whole.campaign
    found = troubles_of(whole)
    verdict = campaign.state
    if campaign.state == CLOSED:
        told = standing_of(campaign, whole.items, whole.slots, whole.ballots, whole.judgements)
        verdict = told["overall"]["verdict"]
    about = {"campaign_id": campaign.campaign_id, "commitment": campaign.commitment, "head": campaign.head}
    finding = "different" if found else "equal"
    return Check("", "campaign", f"campaign {campaign.campaign_id}", verdict, finding, tuple(found), about)


def _check(check: Check) -> Any:
    return pb.Check(
        turn_id=check.turn_id,
        kind=check.kind,
        what=check.what,
        verdict=check.verdict,
        finding=check.finding,
        differences=check.differences,
        document_json=json.dumps(check.document),
    )
