"""Feedback is counted once and never lost."""

import asyncio
import json
from typing import Any

import pytest

from libs.contracts.errors import ResourceExhausted
from libs.contracts.events import SegmentWritten
from libs.eventing.batches import BatchConsumer, RawMessage
from libs.eventing.deadletters import list_dead
from libs.outbox.migrate import drift
from libs.testing.wait import eventually
from services.ingestion.handlers.outcomes import Outcomes
from services.ingestion.store import inferences, signals
from services.ingestion.store.tables import METADATA
from services.ingestion.tests.conftest import House, all_acknowledged, inference, settled


async def test_the_migrated_schema_is_the_one_the_code_uses(house: House) -> None:
    assert await drift(house.database_url, "services.ingestion", METADATA) == []


async def test_a_plain_json_body_is_counted_once_even_if_published_three_times(house: House) -> None:
    await house.consume()
    for _ in range(3):
        await house.say(
            "triage", kind="correction", id="f1", source="desk", input="my printer burns", correction="fire"
        )
    await all_acknowledged(house)
    intake = await settled(house, {"correction": 1})
    assert intake.duplicates == 2
    rows = await house.rows("triage")
    assert [(row["input"], row["output"], row["signal"]) for row in rows] == [("my printer burns", "fire", "bad")]


async def test_the_same_id_after_a_restart_is_a_duplicate(house: House) -> None:
    await house.consume()
    await house.say("triage", kind="rating", rating=1, id="f1", source="desk", input="q", output="a")
    await settled(house, {"rating": 1})
    await house.stop()
    await house.start()
    await house.consume()
    await house.say("triage", kind="rating", rating=1, id="f1", source="desk", input="q", output="a")
    await all_acknowledged(house)
    assert (await settled(house, {"rating": 1})).duplicates == 1
    assert len(await house.rows("triage")) == 1


async def test_one_id_from_two_sources_is_two_signals(house: House) -> None:
    await house.consume()
    for source in ("desk", "app"):
        await house.say("triage", kind="error", id="f1", source=source, input="q")
    await settled(house, {"error": 2})


async def test_a_crash_between_the_object_and_the_commit_counts_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = signals.take_in
    crashes = iter([RuntimeError("killed"), RuntimeError("killed")])

    async def dies(*arguments: Any) -> None:
        crash = next(crashes, None)
        if crash is not None:
            await whole(*arguments)
            raise crash
        await whole(*arguments)

    monkeypatch.setattr(signals, "take_in", dies)
    await house.consume()
    for at in range(5):
        await house.say("triage", kind="correction", id=f"f{at}", source="desk", input=f"q{at}", correction="a")
    await all_acknowledged(house)
    await settled(house, {"correction": 5})
    assert sorted(row["input"] for row in await house.rows("triage")) == [f"q{at}" for at in range(5)]


async def test_while_the_disk_is_full_nothing_is_acknowledged_and_nothing_is_lost(house: House) -> None:
    full = True

    async def take(batch: list[RawMessage]) -> Any:
        if full:
            raise ResourceExhausted("the disk is full", reason="DISK_FULL")
        return await house.feedback.take(batch)

    consumer = BatchConsumer(house.link, "ingestion-feedback", 100, 0.2, take)
    await consumer.start()
    for at in range(3):
        await house.say("triage", kind="error", id=f"f{at}", source="desk", input="q")
    await eventually(lambda: "disk is full" in (consumer.check() or ""))
    assert (await house.link.js.consumer_info("FEEDBACK", "ingestion-feedback")).ack_floor.stream_seq == 0
    full = False
    await settled(house, {"error": 3})
    await consumer.stop(1)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{not json", "JSON"),
        (b'{"kind":"correction","input":"q","id":"x"}', "correction"),
        (b'{"kind":"applause","input":"q"}', "kind"),
        (b'{"kind":"rating","rating":7,"input":"q"}', "rating"),
        (b'{"kind":"error","id":"x"}', "request_id"),
        (b'{"kind":"error","input":12}', "input"),
    ],
)
async def test_invalid_feedback_becomes_a_dead_letter_with_its_reason(house: House, body: bytes, reason: str) -> None:
    await house.consume()
    await house.say("triage", raw=body)
    await house.say("triage", kind="error", id="good", source="desk", input="q")
    intake = await settled(house, {"error": 1})
    await all_acknowledged(house)
    [letter] = await list_dead(house.link.js)
    assert reason in letter.reason
    assert letter.data == body
    assert intake.rejected == 1


async def test_feedback_for_an_unknown_task_becomes_a_dead_letter_that_names_the_known_ones(house: House) -> None:
    await house.consume()
    await eventually(lambda: house.tasks.check() is None)
    await house.say("traige", kind="error", id="f1", source="desk", input="q")
    [letter] = await eventually(lambda: list_dead(house.link.js))
    assert "triage" in letter.reason


async def test_segments_are_numbered_without_gaps_and_announced(house: House) -> None:
    await house.consume()
    for at in range(4):
        await house.say(
            "triage", kind="correction", id=f"f{at}", source="desk", input="q", correction="a", category="c"
        )
        await settled(house, {"correction": at + 1})
    said = await house.stored("EVT")
    facts = [SegmentWritten.model_validate(body) for subject, body in said if subject == SegmentWritten.subject]
    assert [fact.number for fact in facts] == list(range(1, len(facts) + 1))
    assert sum(fact.kinds["correction"] for fact in facts) == 4
    assert facts[0].categories == {"c": 1}


TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


async def last_trace(house: House) -> str:
    async def fact_headers() -> Any:
        state = (await house.link.js.stream_info("EVT")).state
        return (await house.link.js.get_msg("EVT", state.last_seq)).headers if state.messages else None

    return str((await eventually(fact_headers))["traceparent"])


async def test_the_trace_of_the_feedback_goes_on_in_its_facts(house: House) -> None:
    await house.consume()
    body = b'{"kind":"error","id":"x","input":"q"}'
    await house.link.js.publish("feedback.default.triage", body, headers={"traceparent": TRACE})
    await settled(house, {"error": 1})
    assert "a" * 32 in await last_trace(house)


async def test_feedback_that_waited_for_its_inference_keeps_its_trace_among_others_without_one(house: House) -> None:
    await house.consume()
    for number, headers in enumerate((None, {"traceparent": TRACE})):
        body = json.dumps({"kind": "error", "id": f"x{number}", "request_id": "r", "input": "q"}).encode()
        await house.link.js.publish("feedback.default.triage", body, headers=headers)
    await all_acknowledged(house)
    await house.answer(inference("r"), "triage")
    await settled(house, {"error": 2})
    assert "a" * 32 in await last_trace(house)


async def test_two_thousand_signals_at_once_are_all_counted(house: House) -> None:
    await house.consume()
    await asyncio.gather(
        *(
            house.say("triage", kind="correction", id=f"f{at}", source="desk", input=f"q{at}", correction="a")
            for at in range(2000)
        )
    )
    await settled(house, {"correction": 2000})
    assert len(await house.rows("triage")) == 2000


async def test_outcomes_not_told_before_a_crash_are_told_when_the_feedback_comes_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.answer(inference("r1"), "triage")
    await house.consume()
    await eventually(lambda: inferences.find(house.database, ("default", "triage"), ["r1"]))
    told = Outcomes.tell
    crashes = iter([RuntimeError("killed"), RuntimeError("killed")])

    async def dies(self: Outcomes, outcomes: Any) -> None:
        crash = next(crashes, None)
        if crash is not None:
            raise crash
        await told(self, outcomes)

    monkeypatch.setattr(Outcomes, "tell", dies)
    for at in range(3):
        await house.say("triage", kind="correction", id=f"f{at}", source="desk", request_id="r1", correction="fire")
    await all_acknowledged(house)
    await eventually(lambda: house.stored("OUTCOME"))
    assert sorted(body["feedback_id"] for _, body in await house.stored("OUTCOME")) == ["f0", "f1", "f2"]
    assert (await settled(house, {"correction": 3})).duplicates == 0


async def test_personal_data_of_a_signal_never_reaches_its_segment(house: House) -> None:
    await house.consume()
    await house.say(
        "triage",
        kind="correction",
        id="f1",
        source="desk",
        input="I am ada@example.org",
        correction="Hi ada@example.org",
        comment="tell ada@example.org",
    )
    await settled(house, {"correction": 1})
    (row,) = await house.rows("triage")
    assert "example.org" not in str(row)
    assert row["output"] == row["input"].replace("I am", "Hi")
    assert row["comment"] == row["input"].replace("I am", "tell")
    assert json.loads(row["personal"]) == {"email": 3}
