"""Blind campaigns over gRPC: what a reviewer is shown, and what survives."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import insert

from libs.artifacts import ObjectStore
from libs.contracts.campaign import audit
from libs.contracts.errors import FailedPrecondition, InvalidInput, NotFound
from libs.contracts.events import CampaignOpened, ReportCompleted
from libs.contracts.stubs.pawl.evaluator.v1 import campaign_pb2 as pb
from libs.contracts.stubs.pawl.evaluator.v1 import campaign_pb2_grpc
from libs.eventing.connection import NatsLink
from libs.outbox.database import Database
from libs.outbox.migrate import drift, migrate
from libs.runtime.grpc_client import call, channel
from libs.runtime.grpc_server import GrpcServer
from libs.testing.wait import eventually
from services.evaluator.rpc import campaigns
from services.evaluator.store import METADATA, Reports
from services.evaluator.store.campaigns import Campaigns
from services.evaluator.store.tables import reports
from services.evaluator.tests.conftest import Evaluator
from services.evaluator.tests.support import TASK, TENANT, Facts, command, put_suite, right, send, wrong

ITEMS = 24
WORDS = ("alpha", "beta", "gamma", "delta", "omega")


def answer(arm: str, number: int) -> str:
    """Texts of one length and one vocabulary: nothing but the arm's own order of words tells them apart."""
    turn = number % len(WORDS) + (1 if arm == "fine_tuned" else 0)
    return " ".join(WORDS[turn % len(WORDS) :] + WORDS[: turn % len(WORDS)])


def report_of(suite: str, exchanged: bool = False) -> dict[str, Any]:
    arms = {"fine_tuned": {"version": 2, "digest": "a"}, "base": {"version": 0, "digest": "b"}}
    other = {"fine_tuned": "base", "base": "fine_tuned"}
    return {
        "contenders": arms,
        "passport": {"suite_digest": suite},
        "items": [
            {
                "item_id": f"item-{n}", "category": f"c{n % 4}", "group": f"g{n}",
                "arms": {arm: {"text": answer(other[arm] if exchanged else arm, n), "error": None} for arm in arms},
            }
            for n in range(ITEMS)
        ],
    }  # fmt: skip


class Desk:
    """A served campaign service with two reports: the second has the arms' answers exchanged."""

    def __init__(self, stub: Any, database: Database) -> None:
        self.stub = stub
        self.database = database

    async def open(self, report_id: str = "report-1", **options: Any) -> Any:
        request = pb.OpenCampaignRequest(
            report_id=report_id, treatment="fine_tuned", control="base", by="ada", **{"seed": 11, **options}
        )
        return (await call(self.stub.OpenCampaign, request)).campaign

    async def take(self, campaign: pb.Campaign, reviewer: str) -> Any:
        return await call(self.stub.TakePair, pb.TakePairRequest(campaign_id=campaign.campaign_id, reviewer=reviewer))

    async def vote(self, pair: pb.Pair, reviewer: str, choice: Any, **more: Any) -> Any:
        request = pb.CastVoteRequest(
            campaign_id=pair.campaign_id, ticket=pair.ticket, reviewer=reviewer, choice=choice, **more
        )
        return await call(self.stub.CastVote, request)

    async def all_pairs(self, campaign: pb.Campaign, reviewer: str) -> list[pb.TakePairResponse]:
        seen = []
        while (taken := await self.take(campaign, reviewer)).HasField("pair"):
            seen.append(taken)
            await self.vote(taken.pair, reviewer, pb.CHOICE_TIE)
        return seen


@pytest_asyncio.fixture
async def desk(object_store: ObjectStore, database_url: str, tmp_path: Path) -> AsyncIterator[Desk]:
    await migrate(database_url, "services.evaluator")
    database = Database(database_url, metadata=METADATA, service="evaluator")
    await database.open()
    suite = await put_suite(object_store, tmp_path / "suite", ITEMS)
    store = object_store.for_tenant(TENANT)
    for name, exchanged in (("report-1", False), ("report-2", True)):
        digest = await store.put_bytes(json.dumps(report_of(suite, exchanged)).encode(), kind="report")
        row = {
            "report_id": name, "tenant": TENANT, "task": TASK, "version": 2, "suite_digest": suite, "verdict": "pass",
            "state": "completed", "report_digest": digest, "reason": "", "started_at": time.time(), "ended_at": None,
        }  # fmt: skip
        async with database.transaction() as session:
            await session.execute(insert(reports), [row])
    server = GrpcServer("127.0.0.1", 0)
    servicer = campaigns.CampaignServicer(Campaigns(database), Reports(database), object_store)
    server.add(campaigns.register, servicer, campaigns.SERVICE)
    await server.start()
    connection = channel(server.address)
    yield Desk(campaign_pb2_grpc.CampaignServiceStub(connection), database)
    await connection.close()
    await server.stop(0.1)
    await database.close()


def leaves(message: Any, path: str = "") -> dict[str, Any]:
    """Every field of a message, set or not, by its path: a field added later is looked at without being named here."""
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        name = f"{path}{field.name}"
        if field.message_type is None:
            found[name] = list(value) if field.is_repeated else value
        elif field.is_repeated:
            for place, each in enumerate(value):
                found |= leaves(each, f"{name}[{place}].")
        else:
            found |= leaves(value, f"{name}.")
    return found


async def test_nothing_a_reviewer_gets_depends_on_which_arm_is_which(desk: Desk) -> None:
    one, two = await desk.open("report-1"), await desk.open("report-2")
    first, second = await desk.all_pairs(one, "ada"), await desk.all_pairs(two, "ada")
    assert len(first) == len(second) > ITEMS
    sides = set()
    for mine, exchanged in zip(first, second, strict=True):
        ours, theirs = leaves(mine), leaves(exchanged)
        assert ours.keys() == theirs.keys()
        # What names the campaign, or is drawn anew for each, and the time that has passed: not of the arms.
        own = {"pair.campaign_id", "pair.ticket", "reserved_seconds"}
        texts = {"pair.left", "pair.right"}
        assert {k: v for k, v in ours.items() if k not in own | texts} == {
            k: v for k, v in theirs.items() if k not in own | texts
        }
        # The texts change places and are otherwise the same: same masking, same trimming, same length.
        same_arm = ours["pair.left"] == ours["pair.right"]
        if not same_arm:
            assert (ours["pair.left"], ours["pair.right"]) == (theirs["pair.right"], theirs["pair.left"])
            sides.add(ours["pair.left"] == answer("fine_tuned", int(ours["pair.messages[0].content"].split()[1])))
        words = json.dumps([ours, leaves(one)], default=str)
        assert not any(word in words for word in ("fine_tuned", "base", "report-", "stable", "@2"))
    assert sides == {True, False}
    for told in (one, two):
        assert (told.report_id, told.treatment, told.control) == ("", "", "")


async def test_tickets_say_nothing_about_order_or_side(desk: Desk) -> None:
    campaign = await desk.open()
    tickets = [taken.pair.ticket for taken in await desk.all_pairs(campaign, "ada")]
    assert len(set(tickets)) == len(tickets)
    assert tickets != sorted(tickets)
    other = await desk.open()
    assert (await desk.take(other, "ada")).pair.ticket != tickets[0]


async def test_no_metadata_of_an_answer_tells_more_than_the_answer(desk: Desk) -> None:
    campaign = await desk.open()
    running = desk.stub.TakePair(pb.TakePairRequest(campaign_id=campaign.campaign_id, reviewer="ada"))
    assert (await running).HasField("pair")
    # A trace id is drawn at random for each call.
    told = [*(await running.initial_metadata()), *(await running.trailing_metadata())]
    assert [
        key for key, _ in told if key not in ("traceparent", "user-agent", "accept-encoding", "grpc-accept-encoding")
    ] == []


async def test_votes_survive_and_reviewers_share_the_work_without_meeting(desk: Desk) -> None:
    campaign = await desk.open(overlap=0.0)
    ada, bob = await desk.take(campaign, "ada"), await desk.take(campaign, "bob")
    assert ada.pair.messages != bob.pair.messages
    assert (await desk.take(campaign, "ada")).pair == ada.pair
    first = await desk.vote(ada.pair, "ada", pb.CHOICE_LEFT, dwell_ms=1200, tags=["tone"])
    again = await desk.vote(ada.pair, "ada", pb.CHOICE_LEFT)
    assert (first.number, first.hash) == (again.number, again.hash)
    with pytest.raises(FailedPrecondition):
        await desk.vote(bob.pair, "ada", pb.CHOICE_LEFT)
    undone = await call(desk.stub.UndoVote, pb.UndoVoteRequest(campaign_id=campaign.campaign_id, reviewer="ada"))
    assert undone.pair.messages == ada.pair.messages
    assert undone.pair.ticket != ada.pair.ticket
    assert (await desk.vote(undone.pair, "ada", pb.CHOICE_RIGHT)).number == 3
    told = (await call(desk.stub.GetCampaign, pb.GetCampaignRequest(campaign_id=campaign.campaign_id))).campaign
    assert (told.votes, told.items_done, told.items) == (1, 1, ITEMS)


async def test_votes_cast_at_once_form_one_chain(desk: Desk) -> None:
    campaign = await desk.open(overlap=0.0)
    names = [f"r{n}" for n in range(8)]

    async def work(name: str) -> None:
        for _ in range(2):
            await desk.vote((await desk.take(campaign, name)).pair, name, pb.CHOICE_LEFT)

    await asyncio.gather(*(work(name) for name in names))
    await call(desk.stub.CloseCampaign, pb.CloseCampaignRequest(campaign_id=campaign.campaign_id, by="ada"))
    answered = await call(desk.stub.GetAudit, pb.GetAuditRequest(campaign_id=campaign.campaign_id))
    document = json.loads(answered.audit_json)
    assert audit(document) == []
    assert [ballot["number"] for ballot in document["ballots"]] == list(range(1, 17))


async def test_the_standing_is_hidden_from_reviewers_until_the_end(desk: Desk) -> None:
    campaign = await desk.open(overlap=0.0)
    await desk.all_pairs(campaign, "ada")
    with pytest.raises(FailedPrecondition, match="must not know"):
        await call(desk.stub.GetStanding, pb.GetStandingRequest(campaign_id=campaign.campaign_id))
    with pytest.raises(FailedPrecondition, match="once the campaign is closed"):
        await call(desk.stub.GetAudit, pb.GetAuditRequest(campaign_id=campaign.campaign_id))
    peeked = await call(desk.stub.GetStanding, pb.GetStandingRequest(campaign_id=campaign.campaign_id, peek=True))
    assert json.loads(peeked.standing_json)["overall"]["ties"] == ITEMS
    closing = pb.CloseCampaignRequest(campaign_id=campaign.campaign_id, by="ada")
    closed = (await call(desk.stub.CloseCampaign, closing)).campaign
    assert (closed.state, closed.treatment, closed.control) == ("closed", "fine_tuned", "base")
    assert (await call(desk.stub.CloseCampaign, closing)).campaign.closed_at == closed.closed_at
    with pytest.raises(FailedPrecondition, match="closed"):
        await desk.take(campaign, "bob")


async def test_a_campaign_that_cannot_be_is_refused_by_field(desk: Desk) -> None:
    for changes, field in (
        ({"treatment": "tuned"}, "treatment"),
        ({"control": "fine_tuned"}, "control"),
        ({"overlap": 1.5}, "overlap"),
        ({"raters": 40}, "raters"),
        ({"by": " "}, "by"),
    ):
        given: dict[str, Any] = {"report_id": "report-1", "treatment": "fine_tuned", "control": "base", "by": "ada"}
        request = pb.OpenCampaignRequest(**{**given, **changes})
        with pytest.raises(InvalidInput) as refused:
            await call(desk.stub.OpenCampaign, request)
        assert refused.value.field == field
    with pytest.raises(NotFound, match="no report"):
        await desk.open("report-9")
    with pytest.raises(NotFound, match="no campaign"):
        await call(desk.stub.GetCampaign, pb.GetCampaignRequest(campaign_id="nothing"))
    pair = (await desk.take(await desk.open(), "ada")).pair
    with pytest.raises(InvalidInput, match="say left, right"):
        await desk.vote(pair, "ada", pb.CHOICE_UNSPECIFIED)


async def test_the_migrated_schema_is_the_declared_one(desk: Desk, tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'other.db'}"
    await migrate(url, "services.evaluator")
    assert await drift(url, "services.evaluator", METADATA) == []


async def test_a_campaign_opens_on_a_report_as_the_evaluator_makes_it(
    evaluator: Evaluator, link: NatsLink, facts: Facts, object_store: ObjectStore, tmp_path: Path
) -> None:
    suite = await put_suite(object_store, tmp_path / "suite", 80)
    await send(link, command(suite))

    async def made() -> Any:
        return await facts.of(ReportCompleted)

    await eventually(made, 60)
    servicer = campaigns.CampaignServicer(Campaigns(evaluator.database), evaluator.reports, object_store)
    request = pb.OpenCampaignRequest(report_id="report-1", treatment="fine_tuned", control="base", by="ada")
    opened = (await servicer.OpenCampaign(request, None)).campaign
    assert (opened.items, opened.state) == (80, "open")
    taken = await servicer.TakePair(pb.TakePairRequest(campaign_id=opened.campaign_id, reviewer="ada"), None)
    number = int(taken.pair.messages[-1].content.split()[1])
    assert {taken.pair.left, taken.pair.right} == {right(number), wrong(number)}

    async def told() -> Any:
        return await facts.of(CampaignOpened)

    (envelope,) = await eventually(told, 20)
    assert envelope.data.commitment == opened.commitment
