"""Overview, task and decisions: server-rendered, escaped, complete as far as the services answer."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from libs.contracts.events import Assessment
from libs.contracts.stubs.pawl.registry.v1 import registry_pb2 as pb
from services.console import domain
from services.console.clients import Answer, Services
from services.console.http import campaigns, live

_HERE = Path(__file__).parent
_NEWEST = 20
_HEADERS = {
    # Whatever feedback or an adapter managed to get onto a page, it cannot run there.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def build(services: Services) -> Starlette:
    """The application over these services."""
    pages = Pages(services)
    return Starlette(
        routes=[
            Route("/", pages.overview, name="overview"),
            Route("/tasks/{task}", pages.task, name="task"),
            Route("/tasks/{task}/decisions", pages.decisions, name="decisions"),
            *live.routes(services, pages.render),
            *campaigns.routes(services, pages.render),
            Mount("/static", StaticFiles(directory=_HERE / "static"), name="static"),
        ],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=_with_headers)],
        exception_handlers={404: pages.nowhere},
    )


class Pages:
    """One method per page."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._templates.filters |= {
            "short": domain.short, "pretty": domain.pretty, "clock": _clock, "words": _words,
        }  # fmt: skip

    async def overview(self, request: Request) -> Response:
        """All tasks with their routes and the turn under way."""
        answer = await self._services.tasks()
        cards = []
        for task in answer.value.tasks if answer.value is not None else ():
            turns = await self._services.turns(task.name)
            cards.append(_card(task, turns))
        return self.render("overview.html", request, cards=cards, away=_away(answer))

    async def task(self, request: Request) -> Response:
        """One task: route, turn under way, report, monitors, versions and turns."""
        name = request.path_params["task"]
        told = await self._services.about(name)
        found = [task for task in told.tasks.value.tasks if task.name == name] if told.tasks.value is not None else []
        if told.tasks.value is None:
            return self.render("away.html", request, 503, away=told.away(), name=name)
        if not found:
            return self._missing(request, f"There is no task “{name}”.")
        turns = list(told.turns.value.turns) if told.turns.value is not None else []
        versions = list(told.versions.value.versions) if told.versions.value is not None else []
        reports = [report for v in versions if (report := domain.report_of(v.evidence_json, v.number)) is not None]
        heard = told.assessments.value.assessments_json if told.assessments.value is not None else ()
        newest = turns[-1] if turns else None
        return self.render(
            "task.html",
            request,
            task=found[0],
            spec=domain.parsed(found[0].spec_json),
            route=domain.parsed(found[0].route_json),
            arms=domain.arms_of(name, found[0].route_json),
            turn=_turn(newest) if newest is not None else None,
            turns=[_turn(turn) for turn in reversed(turns[-_NEWEST:])],
            versions=list(reversed(versions)),
            report=reports[-1] if reports else None,
            assessments=[Assessment.model_validate_json(line) for line in list(heard)[-_NEWEST:]][::-1],
            datasets=list(told.datasets.value.datasets)[:_NEWEST] if told.datasets.value is not None else [],
            runs=list(told.runs.value.runs)[:_NEWEST] if told.runs.value is not None else [],
            intake=told.intake.value,
            away=told.away(),
        )

    async def decisions(self, request: Request) -> Response:
        """The audit log of a task, newest first."""
        name = request.path_params["task"]
        answer = await self._services.decisions(name)
        if answer.missing:
            return self._missing(request, answer.trouble)
        entries = list(answer.value.decisions)[::-1] if answer.value is not None else []
        status = 200 if answer.value is not None else 503
        return self.render("decisions.html", request, status, name=name, entries=entries, away=_away(answer))

    async def nowhere(self, request: Request, error: Exception) -> Response:  # noqa: ARG002 - as Starlette calls it
        """A page that does not exist."""
        return self._missing(request, "There is no such page.")

    def _missing(self, request: Request, why: str) -> Response:
        return self.render("missing.html", request, 404, why=why, away={})

    def render(self, template: str, request: Request, status: int = 200, **values: Any) -> Response:
        """A page from a template."""
        html = self._templates.get_template(template).render(url_for=request.url_for, **values)
        return HTMLResponse(html, status)


def _card(task: pb.Task, turns: Answer[pb.ListTurnsResponse]) -> dict[str, Any]:
    held = turns.value.turns if turns.value is not None else ()
    return {
        "task": task,
        "spec": domain.parsed(task.spec_json),
        "arms": domain.arms_of(task.name, task.route_json),
        "turn": _turn(held[-1]) if held else None,
    }


def _turn(turn: pb.Turn) -> dict[str, Any]:
    steps = [(step.state, step.reason, _moment(step.at)) for step in turn.steps]
    return {
        "it": turn,
        "road": domain.road_of(steps, turn.state),
        "trace": domain.trace_of(turn.traceparent),
        "opened_at": _moment(turn.opened_at),
        "closed_at": _moment(turn.closed_at) if turn.HasField("closed_at") else None,
        "progress": domain.progress_of(turn.progress_json),
    }


def _away(answer: Answer[Any]) -> dict[str, str]:
    return {answer.service: answer.trouble} if answer.trouble and not answer.missing else {}


def _moment(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)


def _clock(moment: datetime | Timestamp | None) -> str:
    if moment is None:
        return "never"
    known = moment if isinstance(moment, datetime) else _moment(moment)
    return known.strftime("%Y-%m-%d %H:%M:%S")


def _words(name: str) -> str:
    return name.replace("_", " ")


async def _with_headers(request: Request, call_next: RequestResponseEndpoint) -> Response:
    response = await call_next(request)
    response.headers.update(_HEADERS)
    return response
