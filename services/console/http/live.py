"""The live page of a task: what production shows per version and segment."""

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.console import domain
from services.console.clients import Services
from services.console.http.rendering import Render

_RATES = ("satisfaction", "errors", "escalations", "refusals", "invalid")


def routes(services: Services, render: Render) -> list[Route]:
    """Routes of the live page."""

    async def page(request: Request) -> Response:
        name = request.path_params["task"]
        answer = await services.live(name)
        if answer.missing:
            return render("missing.html", request, 404, why=answer.trouble, away={})
        if answer.value is None:
            return render("silent.html", request, 503, away={answer.service: answer.trouble})
        told = json.loads(answer.value.live_json)
        return render("live.html", request, name=name, told=told, arms=_arms(told), rates=_RATES, away={})

    return [Route("/tasks/{task}/live", page, name="live")]


def _arms(told: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "version": arm["version"],
            "role": arm["role"],
            "lines": [
                {**line, "segment": segment, "cells": [domain.interval(line[rate]) for rate in _RATES]}
                for segment, line in arm["segments"].items()
            ],
        }
        for arm in told["versions"]
    ]
