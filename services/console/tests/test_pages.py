"""What the pages show, over real gRPC."""

import re
from collections.abc import AsyncIterator
from xml.etree import ElementTree as ET

import httpx
import pytest_asyncio

from libs.runtime.grpc_server import GrpcServer
from libs.testing.servers import free_port
from services.console.clients import Services
from services.console.http import WebServer, build
from services.console.tests.scene import HOSTILE, TRACE_ID, evaluator_server, registry_server


class Browser:
    def __init__(self, client: httpx.AsyncClient, registry: GrpcServer, evaluator: GrpcServer) -> None:
        self.client, self.registry, self.evaluator = client, registry, evaluator

    async def page(self, path: str, status: int = 200) -> str:
        answer = await self.client.get(path)
        assert answer.status_code == status, answer.text
        return answer.text


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    registry, evaluator = registry_server(), evaluator_server()
    await registry.start()
    await evaluator.start()
    nobody = f"127.0.0.1:{free_port()}"
    services = Services(
        {"registry": registry.address, "evaluator": evaluator.address, "curation": nobody, "trainer": None,
         "ingestion": nobody},
        deadline=2.0,
    )  # fmt: skip
    server = WebServer(build(services), "127.0.0.1", 0)
    server.start()
    async with httpx.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{server.port}") as client:
        yield Browser(client, registry, evaluator)
    await server.stop()
    await services.close()
    await evaluator.stop(0)
    await registry.stop(0)


def text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


async def test_the_overview_shows_each_task_with_roles_shares_and_its_turn(browser: Browser) -> None:
    html = await browser.page("/")
    shown = text(html)
    assert "triage@0 stable 75 %" in shown
    assert "triage@1 canary 25 %" in shown
    assert 'aria-label="triage@0 stable 75 per cent, triage@1 canary 25 per cent"' in html
    assert re.findall(r'<rect class="(\w+)" x="([\d.]+)" y="0" width="([\d.]+)"', html) == [
        ("stable", "0.000", "75.000"), ("canary", "75.000", "25.000"),
    ]  # fmt: skip


async def test_a_task_page_shows_the_turns_road_trigger_and_trace(browser: Browser) -> None:
    html = await browser.page("/tasks/triage")
    assert TRACE_ID in html
    assert "corrections" in text(html)
    road = re.findall(r'<li class="(done|now|ahead|bad)"', html.split("</ol>")[0])
    assert road == ["done"] * 5 + ["now", "ahead"]


async def test_a_task_page_shows_live_progress_with_a_loss_curve(browser: Browser) -> None:
    html = await browser.page("/tasks/triage")
    assert "step 90 of 120" in text(html)
    assert "0.5123" in html
    assert 'aria-label="loss from 2 at step 1 to 0.5 at step 90"' in html
    figure = re.search(r"<figure>.*?</figure>", html, re.DOTALL)
    assert figure is not None
    points = ET.fromstring(figure[0]).find(".//polyline")
    assert points is not None
    assert len(points.attrib["points"].split()) == 3


async def test_a_task_page_shows_the_report_with_intervals_slices_and_gates(browser: Browser) -> None:
    shown = text(await browser.page("/tasks/triage"))
    assert "0.910 [0.860, 0.960] n=200" in shown
    assert "exact match · billing" in shown
    assert "pass better-than-base 0.49 above" in shown


async def test_a_task_page_shows_what_the_monitors_say(browser: Browser) -> None:
    shown = text(await browser.page("/tasks/triage"))
    assert "canary 7 (1 bad)" in shown
    assert "7 of 20 windows" in shown


async def test_services_that_are_away_are_named_and_the_rest_is_shown(browser: Browser) -> None:
    shown = text(await browser.page("/tasks/triage"))
    assert "curation is away:" in shown
    assert "trainer is away: no address set" in shown
    assert "ingestion is away:" in shown
    assert "registry is away" not in shown
    assert "triage@1 canary" in shown
    await browser.evaluator.stop(0)
    shown = text(await browser.page("/tasks/triage"))
    assert "evaluator is away:" in shown
    assert "0.910" in shown


async def test_with_the_registry_away_every_page_says_so(browser: Browser) -> None:
    await browser.registry.stop(0)
    assert "registry is away:" in text(await browser.page("/"))
    assert "registry is away:" in text(await browser.page("/tasks/triage", 503))
    assert "registry is away:" in text(await browser.page("/tasks/triage/decisions", 503))


async def test_decisions_are_shown_newest_first_with_their_evidence(browser: Browser) -> None:
    html = await browser.page("/tasks/triage/decisions")
    assert re.findall(r"<td>(\d+)</td><td><time>", html) == ["2", "1"]
    assert "better-than-base" in html
    assert html.count("<details") == 1


async def test_nothing_from_outside_becomes_markup(browser: Browser) -> None:
    for path in ("/", "/tasks/triage", "/tasks/triage/decisions"):
        html = await browser.page(path)
        assert HOSTILE not in html
        assert "&lt;script&gt;" in html
    answer = await browser.client.get("/")
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    hostile = await browser.client.get("/tasks/%3Cscript%3Ealert(1)%3C%2Fscript%3E")
    assert "<script>alert" not in hostile.text


async def test_unknown_tasks_and_pages_are_not_found(browser: Browser) -> None:
    assert "no task" in text(await browser.page("/tasks/triag", 404))
    assert "did you mean" in text(await browser.page("/tasks/triag/decisions", 404))
    await browser.page("/nothing/here", 404)


async def test_pages_bring_their_own_style_and_script(browser: Browser) -> None:
    html = await browser.page("/")
    found = re.findall(r'(?:href|src)="(/static/[^"]+)"', html)
    assert {path.rsplit(".")[-1] for path in found} == {"css", "js", "svg"}
    for path in found:
        await browser.page(path)
    assert "prefers" not in html
    assert "http://" not in html
