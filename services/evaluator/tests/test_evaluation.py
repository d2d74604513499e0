"""Reports on held-out items, generated through serving."""

import asyncio
import json
from pathlib import Path
from typing import Any

from libs.artifacts import ObjectStore
from libs.contracts.errors import Busy, InvalidInput
from libs.contracts.estimates import Verdict
from libs.contracts.events import EvaluationFailed, ReportCompleted
from libs.eventing.connection import NatsLink
from libs.testing.wait import eventually
from services.evaluator.tests.conftest import Evaluator, House
from services.evaluator.tests.support import (
    ADAPTER,
    BASE,
    TRACE,
    Facts,
    FakeGateway,
    command,
    put_suite,
    right,
    send,
    wrong,
)


async def completed(facts: Facts) -> Any:
    async def look() -> Any:
        found = await facts.of(ReportCompleted)
        return found[0] if found else None

    return await eventually(look, 20)


async def failed(facts: Facts) -> Any:
    async def look() -> Any:
        found = await facts.of(EvaluationFailed)
        return found[0] if found else None

    return await eventually(look, 20)


async def test_a_better_adapter_passes_and_the_report_holds_the_evidence(
    evaluator: Evaluator, link: NatsLink, object_store: ObjectStore, gateway: FakeGateway, facts: Facts, tmp_path: Path
) -> None:
    suite = await put_suite(object_store, tmp_path / "suite")
    await send(link, command(suite), traceparent=TRACE, turn_id="turn-1")
    envelope = await completed(facts)
    report = envelope.data
    assert report.verdict is Verdict.PASS
    assert {gate.gate: gate.verdict for gate in report.gates} == dict.fromkeys(
        ("better-than-base", "not-worse", "valid"), Verdict.PASS
    )
    assert report.arms["fine_tuned"]["exact_match"].value == 1.0
    assert report.arms["base"]["exact_match"].high < 0.1
    assert set(report.slices) == {"c0", "c1", "c2", "c3"}
    assert report.slices["c0"]["fine_tuned"]["exact_match"].n == 15
    assert envelope.turn_id == "turn-1"
    assert envelope.traceparent.split("-")[1] == TRACE.split("-")[1]

    document = json.loads(await object_store.get_bytes(report.report_digest))
    assert document["passport"]["suite_digest"] == suite
    assert document["passport"]["template_digests"] == ["m"]
    assert len(document["items"]) == 60
    assert document["examples"]["base"]["wins"][0]["fine_tuned"] == right(0)
    assert document["differences"]["base"]["exact_match"]["wins"] == 60
    assert document["contenders"]["fine_tuned"]["digest"] == ADAPTER
    # Base and stable are one version here: it is asked once.
    assert sum(gateway.calls.values()) == 120


async def test_a_worse_adapter_fails_with_the_numbers(
    house: House, link: NatsLink, object_store: ObjectStore, gateway: FakeGateway, facts: Facts, tmp_path: Path
) -> None:
    gateway.answers = {0: right, 1: wrong}
    await house.start()
    await send(link, command(await put_suite(object_store, tmp_path / "suite")))
    report = (await completed(facts)).data
    assert report.verdict is Verdict.FAIL
    gate = next(gate for gate in report.gates if gate.gate == "better-than-base")
    assert gate.verdict is Verdict.FAIL
    assert "-1.000" in gate.reason


async def test_an_answer_of_another_model_ends_the_evaluation(
    house: House, link: NatsLink, object_store: ObjectStore, gateway: FakeGateway, facts: Facts, tmp_path: Path
) -> None:
    gateway.digests[1] = (BASE, "sha256:" + "e" * 64)
    await house.start()
    await send(link, command(await put_suite(object_store, tmp_path / "suite")))
    assert "SERVED_MISMATCH" in (await failed(facts)).data.reason
    assert await facts.of(ReportCompleted) == []


async def test_a_version_no_gateway_knows_ends_the_evaluation(
    house: House, link: NatsLink, object_store: ObjectStore, gateway: FakeGateway, facts: Facts, tmp_path: Path
) -> None:
    gateway.answers = {0: wrong}
    await house.start(routing=0.3)
    await send(link, command(await put_suite(object_store, tmp_path / "suite")))
    assert "no model triage@1" in (await failed(facts)).data.reason


async def test_a_suite_that_is_missing_or_broken_is_named(
    evaluator: Evaluator, link: NatsLink, object_store: ObjectStore, facts: Facts, tmp_path: Path
) -> None:
    await send(link, command("sha256:" + "0" * 64))
    assert "NO_SUCH_OBJECT" in (await failed(facts)).data.reason
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "items.jsonl").write_text('{"item_id": "a"}\n')
    digest = await object_store.put_tree(broken, kind="suite", metadata={})
    await send(link, command(digest, "report-2"))

    async def second() -> Any:
        found = await facts.of(EvaluationFailed)
        return found[1] if len(found) > 1 else None

    assert "line 1 of items.jsonl" in (await eventually(second)).data.reason


async def test_busy_serving_is_tried_again_and_a_refused_item_counts_as_wrong(
    house: House, link: NatsLink, object_store: ObjectStore, gateway: FakeGateway, facts: Facts, tmp_path: Path
) -> None:
    async def before(model: str, number: int) -> None:
        if number == 7:
            raise InvalidInput("the prompt is too long", field="messages")
        if gateway.calls[f"{model.split('@')[1]}/{number}"] == 1 and number % 5 == 0:
            raise Busy("too much in flight")

    gateway.before = before
    await house.start()
    await send(link, command(await put_suite(object_store, tmp_path / "suite")))
    report = (await completed(facts)).data
    assert report.verdict is Verdict.PASS
    assert report.arms["fine_tuned"]["exact_match"].value == 59 / 60
    document = json.loads(await object_store.get_bytes(report.report_digest))
    assert "too long" in document["items"][7]["arms"]["fine_tuned"]["error"]


async def test_a_stopped_evaluation_continues_where_it_was(
    house: House, link: NatsLink, object_store: ObjectStore, gateway: FakeGateway, facts: Facts, tmp_path: Path
) -> None:
    first = asyncio.Event()

    async def before(model: str, number: int) -> None:
        if number >= 30 and not first.is_set():
            await asyncio.sleep(60)

    gateway.before = before
    running = await house.start()
    await send(link, command(await put_suite(object_store, tmp_path / "suite")))

    async def half() -> bool:
        return await running.answers.made_for("report-1") >= 25

    await eventually(half, 20)
    await house.stop()
    first.set()
    await house.start()
    assert (await completed(facts)).data.verdict is Verdict.PASS
    again = [name for name, count in gateway.calls.items() if count > 1]
    assert len(again) <= 24


async def test_a_command_delivered_twice_gives_one_report(
    evaluator: Evaluator, link: NatsLink, object_store: ObjectStore, facts: Facts, tmp_path: Path
) -> None:
    suite = await put_suite(object_store, tmp_path / "suite")
    await send(link, command(suite), id="command-1")
    await completed(facts)
    await send(link, command(suite), id="command-2")
    await send(link, command(suite, "report-2"), id="command-3")

    async def done() -> bool:
        return len(await facts.of(ReportCompleted)) >= 2

    await eventually(done, 20)
    reports = [envelope.data for envelope in await facts.of(ReportCompleted)]
    assert [report.report_id for report in reports] == ["report-1", "report-2"]
