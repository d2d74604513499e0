"""Blind campaigns, live metrics and the recomputing of evidence."""

import json
from typing import Any

from libs.contracts.stubs.pawl.evaluator.v1 import campaign_pb2, campaign_pb2_grpc, live_pb2, live_pb2_grpc
from pawl.client.calls.base import DEADLINE_SECONDS, Calls, rpc

VERIFY_SECONDS = 300.0


class CampaignCalls(Calls):
    """Calls to the evaluator about experts' votes and live traffic."""

    def open_campaign(
        self, report_id: str, treatment: str, control: str, *, by: str, **design: Any
    ) -> campaign_pb2.Campaign:
        """Begin a blind campaign on two arms of a report; `design` as in `OpenCampaignRequest`."""
        request = campaign_pb2.OpenCampaignRequest(
            report_id=report_id, treatment=treatment, control=control, by=by, **design
        )
        with rpc("evaluator"):
            return self._campaigns().OpenCampaign(request, timeout=DEADLINE_SECONDS).campaign

    def campaigns(self, task: str = "") -> list[campaign_pb2.Campaign]:
        """Campaigns, newest first."""
        request = campaign_pb2.ListCampaignsRequest(task=task)
        with rpc("evaluator"):
            return list(self._campaigns().ListCampaigns(request, timeout=DEADLINE_SECONDS).campaigns)

    def campaign(self, campaign_id: str) -> campaign_pb2.Campaign:
        """One campaign."""
        request = campaign_pb2.GetCampaignRequest(campaign_id=campaign_id)
        with rpc("evaluator"):
            return self._campaigns().GetCampaign(request, timeout=DEADLINE_SECONDS).campaign

    def close_campaign(self, campaign_id: str, *, by: str) -> campaign_pb2.Campaign:
        """End a campaign; its order is laid open."""
        request = campaign_pb2.CloseCampaignRequest(campaign_id=campaign_id, by=by)
        with rpc("evaluator"):
            return self._campaigns().CloseCampaign(request, timeout=DEADLINE_SECONDS).campaign

    def standing(self, campaign_id: str, *, peek: bool = False) -> dict[str, Any]:
        """What the votes show; of an open campaign only with `peek`."""
        request = campaign_pb2.GetStandingRequest(campaign_id=campaign_id, peek=peek)
        with rpc("evaluator"):
            answer = self._campaigns().GetStanding(request, timeout=DEADLINE_SECONDS)
        standing: dict[str, Any] = json.loads(answer.standing_json)
        return standing

    def audit_of(self, campaign_id: str) -> dict[str, Any]:
        """The order of a closed campaign with its nonce, and all ballots; `libs.contracts.campaign.audit` checks it."""
        request = campaign_pb2.GetAuditRequest(campaign_id=campaign_id)
        with rpc("evaluator"):
            answer = self._campaigns().GetAudit(request, timeout=DEADLINE_SECONDS)
        document: dict[str, Any] = json.loads(answer.audit_json)
        return document

    def add_judgements(self, campaign_id: str, judge: str, preferences: dict[str, float]) -> int:
        """Add a judge's preferences for the treatment, by item, in [0, 1]; returns how many were new."""
        rows = [campaign_pb2.Judgement(item_id=item, preference=value) for item, value in preferences.items()]
        request = campaign_pb2.AddJudgementsRequest(campaign_id=campaign_id, judge=judge, judgements=rows)
        with rpc("evaluator"):
            return self._campaigns().AddJudgements(request, timeout=DEADLINE_SECONDS).added

    def live(self, task: str, seconds: float = 0.0) -> dict[str, Any]:
        """Live metrics per version and segment, shadow comparison, drift and the drop detector."""
        with rpc("evaluator"):
            stub = live_pb2_grpc.LiveServiceStub(self.channel("evaluator"))
            answer = stub.GetLive(live_pb2.GetLiveRequest(task=task, seconds=seconds), timeout=DEADLINE_SECONDS)
        live: dict[str, Any] = json.loads(answer.live_json)
        return live

    def verify_evidence(self, task: str, turn_id: str = "") -> list[live_pb2.Check]:
        """Each assessment and drop of a task, recomputed from the ledger."""
        request = live_pb2.VerifyEvidenceRequest(task=task, turn_id=turn_id)
        with rpc("evaluator"):
            stub = live_pb2_grpc.LiveServiceStub(self.channel("evaluator"))
            return list(stub.VerifyEvidence(request, timeout=VERIFY_SECONDS).checks)

    def _campaigns(self) -> campaign_pb2_grpc.CampaignServiceStub:
        return campaign_pb2_grpc.CampaignServiceStub(self.channel("evaluator"))
