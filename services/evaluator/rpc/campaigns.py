"""Blind campaigns over gRPC: translates only."""

import json
import secrets
import time
from datetime import UTC, datetime
from typing import Any

from libs.artifacts import ObjectStore
from libs.contracts.campaign import BOTH_BAD, LEFT, RIGHT, SKIP, TIE, commitment
from libs.contracts.errors import FailedPrecondition, InvalidInput
from libs.contracts.ids import new_id
from libs.contracts.stubs.pawl.evaluator.v1 import campaign_pb2 as pb
from libs.contracts.stubs.pawl.evaluator.v1 import campaign_pb2_grpc
from services.evaluator.domain.campaign import CLOSED, OPEN, Campaign, Design, shown, texts
from services.evaluator.domain.campaign_desk import Cast
from services.evaluator.domain.campaign_plan import draw
from services.evaluator.domain.campaign_record import record_of
from services.evaluator.domain.campaign_source import candidates_of, judgements_of, suite_digest_of
from services.evaluator.domain.campaign_standing import standing_of
from services.evaluator.domain.suite import ITEMS_FILE, parse_suite
from services.evaluator.store import Reports
from services.evaluator.store.campaigns import Campaigns, Taken

SERVICE = "pawl.evaluator.v1.CampaignService"
register = campaign_pb2_grpc.add_CampaignServiceServicer_to_server
_CHOICES = {
    pb.CHOICE_LEFT: LEFT,
    pb.CHOICE_RIGHT: RIGHT,
    pb.CHOICE_TIE: TIE,
    pb.CHOICE_BOTH_BAD: BOTH_BAD,
    pb.CHOICE_SKIP: SKIP,
}
_MOST_DWELL = 86_400_000


class CampaignServicer(campaign_pb2_grpc.CampaignServiceServicer):
    """Opens campaigns on reports, hands out pairs and takes votes."""

    def __init__(self, campaigns: Campaigns, reports: Reports, objects: ObjectStore) -> None:
        self._campaigns = campaigns
        self._reports = reports
        self._objects = objects

    async def OpenCampaign(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002 - named by the protocol
        """A new campaign; FailedPrecondition while the report is still being made."""
        by = _name(request.by, "by")
        row = await self._reports.get(request.report_id)
        if not row.report_digest:
            raise FailedPrecondition(f"report {row.report_id} is {row.state}; it has no answers yet", field="report_id")
        objects = self._objects.for_tenant(row.tenant)
        report = json.loads(await objects.get_bytes(row.report_digest))
        tree = await objects.get_manifest(suite_digest_of(report))
        suite = parse_suite((await objects.get_bytes(tree.files[ITEMS_FILE].digest)).decode())
        design = _design(request)
        plan = draw(candidates_of(report, suite, request.treatment, request.control), design)
        nonce = secrets.token_hex(32)
        committed = commitment(nonce, plan.slots)
        campaign = Campaign(
            campaign_id=new_id("campaign"), tenant=row.tenant, task=row.task, report_id=row.report_id,
            treatment=request.treatment, control=request.control, name=request.name or f"{row.task}: which is better?",
            guidelines=request.guidelines, state=OPEN, commitment=committed, nonce=nonce, head=committed,
            design=design, opened_by=by, opened_at=time.time(),
        )  # fmt: skip
        asked = {item.item_id for item in plan.items}
        judges = {
            judge: {item: value for item, value in given.items() if item in asked}
            for judge, given in judgements_of(report, request.treatment, request.control).items()
        }
        await self._campaigns.open(campaign, plan, judges)
        return pb.OpenCampaignResponse(campaign=await self._told(campaign.campaign_id))

    async def ListCampaigns(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Campaigns, newest first."""
        found = await self._campaigns.listed(request.task)
        return pb.ListCampaignsResponse(campaigns=[await self._told(each.campaign_id) for each in found])

    async def GetCampaign(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """One campaign."""
        return pb.GetCampaignResponse(campaign=await self._told(request.campaign_id))

    async def TakePair(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """The next pair for a reviewer."""
        taken = await self._campaigns.take(request.campaign_id, _name(request.reviewer, "reviewer"))
        return pb.TakePairResponse(
            pair=_pair(taken), done=taken.done, held_by_others=taken.held_by_others, reserved_seconds=taken.seconds
        )

    async def CastVote(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """A vote on the pair that is held."""
        if request.choice not in _CHOICES:
            raise InvalidInput("say left, right, tie, both bad or skip", field="choice")
        cast = Cast(
            reviewer=_name(request.reviewer, "reviewer"), ticket=request.ticket, choice=_CHOICES[request.choice],
            dwell_ms=min(request.dwell_ms, _MOST_DWELL), tags=tuple(request.tags), comment=request.comment,
        )  # fmt: skip
        number, digest = await self._campaigns.cast(request.campaign_id, cast)
        return pb.CastVoteResponse(number=number, hash=digest)

    async def UndoVote(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """The reviewer's last pair again."""
        taken = await self._campaigns.undo(request.campaign_id, _name(request.reviewer, "reviewer"))
        return pb.UndoVoteResponse(pair=_pair(taken))

    async def CloseCampaign(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """The campaign, closed."""
        _name(request.by, "by")
        await self._campaigns.close(request.campaign_id)
        return pb.CloseCampaignResponse(campaign=await self._told(request.campaign_id))

    async def GetStanding(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """The standing, for an open campaign only on purpose: reviewers must not see it."""
        whole = await self._campaigns.everything(request.campaign_id)
        if whole.campaign.state == OPEN and not request.peek:
            raise FailedPrecondition(
                "the campaign is open, and whoever votes must not know how it stands; ask with peek",
                reason="STILL_OPEN",
                field="peek",
            )
        told = standing_of(whole.campaign, whole.items, whole.slots, whole.ballots, whole.judgements)
        return pb.GetStandingResponse(standing_json=json.dumps(told, allow_nan=False))

    async def GetAudit(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """Order, nonce and ballots of a closed campaign."""
        whole = await self._campaigns.everything(request.campaign_id)
        campaign = whole.campaign
        if campaign.state != CLOSED:
            raise FailedPrecondition(
                "the order is laid open once the campaign is closed", reason="STILL_OPEN", field="campaign_id"
            )
        document = record_of(whole)
        return pb.GetAuditResponse(audit_json=json.dumps(document))

    async def AddJudgements(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        """A judge's preferences."""
        for place, each in enumerate(request.judgements):
            if not 0.0 <= each.preference <= 1.0:
                raise InvalidInput(
                    f"{each.preference} is no preference between 0 and 1", field=f"judgements[{place}].preference"
                )
        given = {each.item_id: each.preference for each in request.judgements}
        return pb.AddJudgementsResponse(
            added=await self._campaigns.judge(request.campaign_id, _name(request.judge, "judge"), given)
        )

    async def _told(self, campaign_id: str) -> Any:
        desk = await self._campaigns.desk(campaign_id)
        campaign, closed = desk.campaign, desk.campaign.state == CLOSED
        told = pb.Campaign(
            campaign_id=campaign.campaign_id, task=campaign.task, name=campaign.name, guidelines=campaign.guidelines,
            state=campaign.state, commitment=campaign.commitment,
            items=len({slot.item_id for slot in desk.slots if slot.kind == "pair"}), items_done=desk.items_done(),
            votes=len(desk.standing_votes()), opened_by=campaign.opened_by,
            report_id=campaign.report_id if closed else "", treatment=campaign.treatment if closed else "",
            control=campaign.control if closed else "",
        )  # fmt: skip
        told.opened_at.FromDatetime(datetime.fromtimestamp(campaign.opened_at, UTC))
        if campaign.closed_at is not None:
            told.closed_at.FromDatetime(datetime.fromtimestamp(campaign.closed_at, UTC))
        return told


def _pair(taken: Taken) -> Any:
    if taken.slot is None or taken.item is None:
        return None
    left, right = texts(taken.item, taken.slot)
    return pb.Pair(
        campaign_id=taken.campaign.campaign_id,
        ticket=taken.ticket,
        messages=[pb.Message(role=m.role, content=shown(m.content)) for m in taken.item.messages],
        left=left,
        right=right,
    )


def _design(request: Any) -> Design:
    given = {
        name: getattr(request, name)
        for name in ("max_items", "raters", "reservation_seconds")
        if getattr(request, name)
    }
    given |= {name: getattr(request, name) for name in ("overlap", "same_arm", "swapped") if request.HasField(name)}
    seed = request.seed if request.HasField("seed") else secrets.randbits(63)
    return Design(seed=seed, ask_identical=request.ask_identical, **given)


def _name(value: str, field: str) -> str:
    if not value.strip() or len(value) > 200:
        raise InvalidInput("a name of 1 to 200 letters is needed", field=field)
    return value.strip()
