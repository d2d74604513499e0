"""An evaluator that answers by real gRPC: one open campaign of three pairs, one closed, and a live view."""

# ruff: noqa: N802 - gRPC chose the names

import json
from typing import Any

from libs.contracts.errors import FailedPrecondition, NotFound
from libs.contracts.stubs.pawl.evaluator.v1 import campaign_pb2 as pb
from libs.contracts.stubs.pawl.evaluator.v1 import live_pb2, live_pb2_grpc
from libs.contracts.stubs.pawl.evaluator.v1.campaign_pb2_grpc import (
    CampaignServiceServicer,
    add_CampaignServiceServicer_to_server,
)
from libs.runtime.grpc_server import GrpcServer
from services.console.tests.scene import HOSTILE

ESTIMATE = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 60}


def line(**changes: Any) -> dict[str, Any]:
    whole = {
        "win_rate": 0.8, "interval": ESTIMATE, "sequence": {"low": 0.64, "high": 0.93}, "e_value": 900.0, "wins": 44,
        "losses": 8, "ties": 8, "both_bad": 1, "items": 60, "clusters": 60, "verdict": "strong",
        "reason": "preferred: 80%, at all times within 64% to 93%",
    }  # fmt: skip
    return {**whole, **changes}


def standing() -> dict[str, Any]:
    helped = {"estimate": ESTIMATE, "experts": ESTIMATE, "trust": 0.9, "effective_extra_votes": 41.0}
    return {
        "treatment": "fine_tuned", "control": "base", "votes": 80, "reviewers": 3, "overall": line(),
        "categories": {"billing": line(verdict="inconclusive", reason="12 decisive items")},
        "with_agreed": ESTIMATE, "agreed_items": 20, "agreement": ESTIMATE,
        "length_controlled": {"estimate": ESTIMATE, "raw": ESTIMATE, "pull": 0.2},
        "sides": {"left": ESTIMATE, "same_arm": {"pairs": 4, "told_apart": 1, "left": 1}, "swapped": ESTIMATE},
        "judges": {"judge-1": {"admitted": True, "reason": f"correlation 0.8 {HOSTILE}", "win_rate": helped}},
        "head": "sha256:" + "e" * 64,
    }  # fmt: skip


def live() -> dict[str, Any]:
    segment = {
        "requests": 120, "users": 60, "feedback": 30, "satisfaction": ESTIMATE, "errors": ESTIMATE,
        "escalations": ESTIMATE, "refusals": None, "invalid": None,
        "latency_p50_ms": {"value": 41.0, "low": 38.0, "high": 45.0, "n": 120},
        "latency_p95_ms": {"value": 97.0, "low": 80.0, "high": None, "n": 120}, "first_token_p50_ms": None,
        "output_chars": ESTIMATE,
    }  # fmt: skip
    drop = {"number": 1, "version": 1, "detected_at": "2026-05-04T12:00:00Z", "reason": f"61% of 80 users {HOSTILE}"}
    moved = {"index": ESTIMATE, "distance": ESTIMATE, "moved": "moved", "threshold": 0.1}
    return {
        "seconds": 3600.0, "windows": 300, "stable": 1,
        "versions": [{"version": 1, "role": "stable", "segments": {"all": segment, HOSTILE: segment}}],
        "shadow": {"pairs": 50, "same_answer": ESTIMATE, "latency_ratio": ESTIMATE, "longer_by_chars": ESTIMATE},
        "drift": {"reference_users": 200, "current_users": 180, "traits": {"language": moved}},
        "drop_watch": {"floor": 0.85, "reference": 200, "users": 90, "e_value": 3.2, "needed": 10000.0,
                       "pending_since": None},
        "drops": [drop], "lateness": {"feedback": 30, "late": 2, "longest_seconds": 400.0, "waited": 120.0},
    }  # fmt: skip


class Campaigns(CampaignServiceServicer):
    """Three pairs for each reviewer; remembers the ballots it got."""

    def __init__(self) -> None:
        self.votes: list[pb.CastVoteRequest] = []
        self.gone = False

    def campaign(self, state: str = "open") -> pb.Campaign:
        return pb.Campaign(
            campaign_id=f"campaign-{state}", task="triage", name="Which answer helps more?", state=state, items=3,
            guidelines=f"Look at the facts. {HOSTILE}", items_done=len(self.votes), votes=len(self.votes),
            commitment="sha256:" + "c" * 64, opened_by="ada",
        )  # fmt: skip

    async def ListCampaigns(self, request: Any, context: Any) -> pb.ListCampaignsResponse:
        return pb.ListCampaignsResponse(campaigns=[self.campaign(), self.campaign("closed")])

    async def GetCampaign(self, request: Any, context: Any) -> pb.GetCampaignResponse:
        state = request.campaign_id.removeprefix("campaign-")
        if state not in ("open", "closed"):
            raise NotFound(f"no campaign {request.campaign_id!r}", field="campaign_id")
        return pb.GetCampaignResponse(campaign=self.campaign(state))

    async def TakePair(self, request: Any, context: Any) -> pb.TakePairResponse:
        done = len(self.votes)
        if done == 3:
            return pb.TakePairResponse(done=done)
        return pb.TakePairResponse(pair=self.pair(done), done=done, reserved_seconds=600)

    def pair(self, number: int) -> pb.Pair:
        return pb.Pair(
            campaign_id="campaign-open", ticket=f"ticket-{number}", left=f"left {number} {HOSTILE}",
            right=f"right {number}", messages=[pb.Message(role="user", content=f"question {number}")],
        )  # fmt: skip

    async def CastVote(self, request: Any, context: Any) -> pb.CastVoteResponse:
        if self.gone:
            raise FailedPrecondition("the reservation ran out and somebody else has this pair", field="ticket")
        self.votes.append(request)
        return pb.CastVoteResponse(number=len(self.votes))

    async def UndoVote(self, request: Any, context: Any) -> pb.UndoVoteResponse:
        self.votes.pop()
        return pb.UndoVoteResponse(pair=self.pair(len(self.votes)))

    async def GetStanding(self, request: Any, context: Any) -> pb.GetStandingResponse:
        return pb.GetStandingResponse(standing_json=json.dumps(standing()))


class Live(live_pb2_grpc.LiveServiceServicer):
    async def GetLive(self, request: Any, context: Any) -> live_pb2.GetLiveResponse:
        return live_pb2.GetLiveResponse(live_json=json.dumps(live()))


def add_voting(server: GrpcServer) -> Campaigns:
    held = Campaigns()  # type: ignore[abstract]
    server.add(add_CampaignServiceServicer_to_server, held, "pawl.evaluator.v1.CampaignService")
    server.add(
        live_pb2_grpc.add_LiveServiceServicer_to_server,
        Live(),  # type: ignore[abstract]
        "pawl.evaluator.v1.LiveService",
    )
    return held
