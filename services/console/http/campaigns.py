"""Blind A/B in the browser: plain forms that work without a script; a script adds the keys."""

import json
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from libs.contracts.stubs.pawl.evaluator.v1 import campaign_pb2 as pb
from services.console import domain
from services.console.clients import Answer, Services
from services.console.http.rendering import Render

_COOKIE = "pawl_reviewer"
_MOST_BYTES = 16_384
_CHOICES = {
    "left": pb.CHOICE_LEFT,
    "right": pb.CHOICE_RIGHT,
    "tie": pb.CHOICE_TIE,
    "both_bad": pb.CHOICE_BOTH_BAD,
    "skip": pb.CHOICE_SKIP,
}


def routes(services: Services, render: Render) -> list[Route]:
    """Routes of the campaign pages."""
    pages = CampaignPages(services, render)
    return [
        Route("/tasks/{task}/campaigns", pages.listed, name="campaigns"),
        Route("/campaigns/{campaign_id}", pages.campaign, name="campaign"),
        Route("/campaigns/{campaign_id}/reviewer", pages.reviewer, name="reviewer", methods=["POST"]),
        Route("/campaigns/{campaign_id}/vote", pages.vote, name="vote", methods=["POST"]),
        Route("/campaigns/{campaign_id}/undo", pages.undo, name="undo", methods=["POST"]),
    ]


class CampaignPages:
    """One method per page or form."""

    def __init__(self, services: Services, render: Render) -> None:
        self._services = services
        self._render = render

    async def listed(self, request: Request) -> Response:
        """Campaigns of a task."""
        name = request.path_params["task"]
        answer = await self._services.campaigns(name)
        rows = list(answer.value.campaigns) if answer.value is not None else []
        away = {answer.service: answer.trouble} if answer.value is None else {}
        return self._render("campaigns.html", request, 503 if away else 200, name=name, rows=rows, away=away)

    async def campaign(self, request: Request) -> Response:
        """The pair to vote on, the question who votes, or the standing of a closed campaign."""
        campaign_id = request.path_params["campaign_id"]
        answer = await self._services.campaign(campaign_id)
        if answer.value is None:
            return self._failed(request, answer)
        campaign = answer.value.campaign
        if campaign.state == "closed":
            told = await self._services.standing(campaign_id)
            if told.value is None:
                return self._failed(request, told)
            standing = json.loads(told.value.standing_json)
            lines = [
                {**line, "name": name, "cell": domain.interval({**line["sequence"], "value": line["win_rate"],
                                                                "n": line["items"]})}
                for name, line in (("overall", standing["overall"]), *standing["categories"].items())
            ]  # fmt: skip
            return self._render("standing.html", request, campaign=campaign, told=standing, lines=lines, away={})
        reviewer = _reviewer(request)
        if not reviewer or "who" in request.query_params:
            return self._render("reviewer.html", request, campaign=campaign, away={})
        taken = await self._services.take_pair(campaign_id, reviewer)
        if taken.value is None:
            return self._failed(request, taken)
        pair = taken.value.pair if taken.value.HasField("pair") else None
        trouble = request.query_params.get("trouble", "")[:300]
        return self._render(
            "vote.html", request, campaign=campaign, pair=pair, taken=taken.value, reviewer=reviewer,
            trouble=trouble, away={},
        )  # fmt: skip

    async def reviewer(self, request: Request) -> Response:
        """Remember who votes, in this browser."""
        form = await _form(request)
        answer = self._back(request)
        name = form.get("reviewer", "").strip()[:200]
        if _own(request) and name:
            answer.set_cookie(_COOKIE, name.encode().hex(), httponly=True, samesite="strict", max_age=30 * 86_400)
        return answer

    async def vote(self, request: Request) -> Response:
        """Take a vote and go on to the next pair."""
        form = await _form(request)
        reviewer = _reviewer(request)
        if not _own(request) or not reviewer or form.get("choice") not in _CHOICES:
            return self._back(request)
        dwell = form.get("dwell_ms", "0")
        cast = pb.CastVoteRequest(
            campaign_id=request.path_params["campaign_id"],
            reviewer=reviewer,
            ticket=form.get("ticket", ""),
            choice=_CHOICES[form["choice"]],
            dwell_ms=min(int(dwell), 86_400_000) if dwell.isdigit() and len(dwell) < 10 else 0,
        )
        return self._back(request, await self._services.cast_vote(cast))

    async def undo(self, request: Request) -> Response:
        """Take the last vote back and show its pair again."""
        reviewer = _reviewer(request)
        if not _own(request) or not reviewer:
            return self._back(request)
        return self._back(request, await self._services.undo_vote(request.path_params["campaign_id"], reviewer))

    def _back(self, request: Request, answer: Answer[Any] | None = None) -> RedirectResponse:
        url = request.url_for("campaign", campaign_id=request.path_params["campaign_id"])
        if answer is not None and answer.value is None:
            url = url.include_query_params(trouble=answer.trouble)
        # Only the path: a console may stand behind a proxy that knows it by another name.
        return RedirectResponse(f"{url.path}?{url.query}" if url.query else url.path, 303)

    def _failed(self, request: Request, answer: Answer[Any]) -> Response:
        if answer.missing:
            return self._render("missing.html", request, 404, why=answer.trouble, away={})
        return self._render("silent.html", request, 503, away={answer.service: answer.trouble})


def _reviewer(request: Request) -> str:
    try:
        return bytes.fromhex(request.cookies.get(_COOKIE, "")).decode()[:200]
    except ValueError:
        return ""


def _own(request: Request) -> bool:
    """Whether a form was sent from one of our own pages: another site must not vote in a reviewer's name."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host")


async def _form(request: Request) -> dict[str, str]:
    """The fields of a url-encoded form of bounded size; empty when it is larger."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            return {}
    return {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
