"""Voting and the live page, over real gRPC and HTTP."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest_asyncio

from libs.contracts.stubs.pawl.evaluator.v1 import campaign_pb2 as pb
from libs.runtime.grpc_server import GrpcServer
from services.console.clients import Services
from services.console.http import WebServer, build
from services.console.tests.scene import HOSTILE
from services.console.tests.voting import Campaigns, add_voting

OWN = {"sec-fetch-site": "same-origin"}


@dataclass
class Reviewer:
    client: httpx.AsyncClient
    campaigns: Campaigns
    evaluator: GrpcServer

    async def page(self, path: str = "/campaigns/campaign-open", status: int = 200) -> str:
        answer = await self.client.get(path)
        assert answer.status_code == status, answer.text
        return answer.text

    async def send(self, form: str, headers: dict[str, str] = OWN, **fields: str) -> httpx.Response:
        answer = await self.client.post(f"/campaigns/campaign-open/{form}", data=fields, headers=headers)
        assert answer.status_code == 303
        return answer


@pytest_asyncio.fixture
async def reviewer() -> AsyncIterator[Reviewer]:
    evaluator = GrpcServer("127.0.0.1", 0)
    campaigns = add_voting(evaluator)
    await evaluator.start()
    services = Services({"registry": None, "evaluator": evaluator.address}, deadline=2.0)
    server = WebServer(build(services), "127.0.0.1", 0)
    server.start()
    async with httpx.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{server.port}") as client:
        yield Reviewer(client, campaigns, evaluator)
    await server.stop()
    await services.close()
    await evaluator.stop(0)


def text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


async def test_whoever_comes_first_says_who_they_are_and_then_votes_pair_by_pair(reviewer: Reviewer) -> None:
    assert "Who is voting?" in text(await reviewer.page())
    await reviewer.send("reviewer", reviewer="Ada Łoś")
    html = await reviewer.page()
    assert "question 0" in html
    assert "Ada Łoś · 0 voted" in text(html)
    assert "Who is voting?" in text(await reviewer.page("/campaigns/campaign-open?who"))
    ticket = re.search(r'name="ticket" value="([^"]+)"', html)
    assert ticket is not None
    answer = await reviewer.send("vote", ticket=ticket[1], choice="both_bad", dwell_ms="4200")
    assert answer.headers["location"] == "/campaigns/campaign-open"
    (vote,) = reviewer.campaigns.votes
    assert (vote.reviewer, vote.ticket, vote.choice, vote.dwell_ms) == (
        "Ada Łoś", "ticket-0", pb.CHOICE_BOTH_BAD, 4200,
    )  # fmt: skip
    assert "question 1" in await reviewer.page()
    await reviewer.send("undo")
    assert reviewer.campaigns.votes == []
    for number in range(3):
        await reviewer.send("vote", ticket=f"ticket-{number}", choice="left")
    assert "Nothing left for you" in text(await reviewer.page())


async def test_every_choice_has_its_key_and_works_without_a_script(reviewer: Reviewer) -> None:
    await reviewer.send("reviewer", reviewer="ada")
    html = await reviewer.page()
    buttons = dict(re.findall(r'<button name="choice" value="(\w+)" data-key="(.)"', html))
    assert buttons == {"left": "1", "right": "2", "tie": "3", "both_bad": "4", "skip": "s"}
    assert '<button form="take-back" data-key="u"' in html
    assert html.count('method="post"') == 2
    # The page that is voted on must not be swapped under the reviewer's eyes.
    assert "console.js" not in html
    script = await reviewer.page("/static/vote.js")
    assert "data-key" in script


async def test_a_page_of_another_site_cannot_vote_in_a_reviewers_name(reviewer: Reviewer) -> None:
    await reviewer.send("reviewer", reviewer="ada")
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
        await reviewer.send("vote", headers, ticket="ticket-0", choice="left")
        await reviewer.send("undo", headers)
    assert reviewer.campaigns.votes == []
    await reviewer.send("vote", {}, ticket="ticket-0", choice="left")
    assert len(reviewer.campaigns.votes) == 1
    cookie = (await reviewer.send("reviewer", reviewer="ada")).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie


async def test_nonsense_in_a_form_votes_for_nothing(reviewer: Reviewer) -> None:
    await reviewer.send("vote", ticket="ticket-0", choice="left")
    await reviewer.send("reviewer", reviewer="ada")
    await reviewer.send("vote", ticket="ticket-0", choice="treatment")
    await reviewer.send("vote", ticket="ticket-0", choice="left", comment="x" * 20_000)
    assert reviewer.campaigns.votes == []
    await reviewer.send("vote", ticket="ticket-0", choice="left", dwell_ms="-5")
    assert reviewer.campaigns.votes[0].dwell_ms == 0


async def test_a_vote_that_was_refused_says_why_on_the_next_page(reviewer: Reviewer) -> None:
    await reviewer.send("reviewer", reviewer="ada")
    reviewer.campaigns.gone = True
    answer = await reviewer.send("vote", ticket="ticket-0", choice="left")
    html = await reviewer.page(answer.headers["location"])
    assert "somebody else has this pair" in text(html)
    assert 'role="alert"' in html


async def test_a_closed_campaign_shows_its_standing(reviewer: Reviewer) -> None:
    shown = text(await reviewer.page("/campaigns/campaign-closed"))
    assert "fine tuned against base" in shown
    assert "at all times within 64% to 93%" in shown
    assert "0.800 [0.640, 0.930] n=60" in shown
    assert "judge-1 admitted" in shown
    assert "worth 41 more votes" in shown
    listed = text(await reviewer.page("/tasks/triage/campaigns"))
    assert "Which answer helps more? open 0 of 3" in listed
    assert "no campaign" in text(await reviewer.page("/campaigns/nothing", 404))


async def test_the_live_page_shows_versions_segments_drift_and_drops(reviewer: Reviewer) -> None:
    html = await reviewer.page("/tasks/triage/live")
    shown = text(html)
    assert "triage@1 stable" in shown
    assert "97" in shown
    assert "180 users now against the first 200" in shown
    assert "language" in shown
    assert "85 % of users without a bad answer" in shown
    assert "drop 1 of @1 at 2026-05-04 12:00:00" in shown
    assert "2 of 30 signals came later" in shown


async def test_nothing_that_a_model_or_a_user_wrote_becomes_markup(reviewer: Reviewer) -> None:
    await reviewer.send("reviewer", reviewer=HOSTILE)
    for path in ("/campaigns/campaign-open", "/campaigns/campaign-closed", "/tasks/triage/live"):
        html = await reviewer.page(path)
        assert HOSTILE not in html
        assert "&lt;script&gt;" in html
    html = await reviewer.page(f"/campaigns/campaign-open?trouble={HOSTILE}")
    assert HOSTILE not in html


async def test_an_evaluator_that_is_away_is_named(reviewer: Reviewer) -> None:
    await reviewer.evaluator.stop(0)
    for path in ("/campaigns/campaign-open", "/tasks/triage/live", "/tasks/triage/campaigns"):
        assert "evaluator is away:" in text(await reviewer.page(path, 503))
