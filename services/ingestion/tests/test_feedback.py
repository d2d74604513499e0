"""Feedback is counted once, joined to its inference from either side, and never lost."""

import asyncio
import json
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from libs.contracts.answers import answer_digest
from libs.contracts.errors import ResourceExhausted
from libs.contracts.events import SegmentWritten
from libs.contracts.inference import Inference, Message, Provenance, Role, ToolCall
from libs.eventing.batches import BatchConsumer, RawMessage
from libs.eventing.deadletters import list_dead
from libs.outbox.migrate import drift
from libs.testing.wait import eventually
from services.ingestion.handlers.outcomes import Outcomes
from services.ingestion.store import signals
from services.ingestion.store.segments import Intake
from services.ingestion.store.tables import METADATA
from services.ingestion.tests.conftest import BASE, House


def inference(request_id: str, output: str = "wrong", **fields: Any) -> Inference:
    given = {
        "generation": 3, "version": 2, "role": Role.CANARY, "unit": "u1", "assignment_probability": 0.5,
        "messages": (Message(role="system", content="be brief"), Message(role="user", content="my printer burns")),
        "provenance": Provenance(base_digest=BASE), "created_at": datetime.now(UTC),
    }  # fmt: skip
    return Inference(request_id=request_id, output=output, **{**given, **fields})


async def settled(house: House, kinds: dict[str, int]) -> Intake:
    async def there() -> Intake | None:
        intake = await signals.intake(house.database, "default", "triage")
        return intake if intake.kinds == kinds else None

    found = await eventually(there, 15)
    assert found is not None
    return found


async def _all_logged(house: House, asked: list[str]) -> bool:
    return len(await signals.inferences(house.database, ("default", "triage"), asked)) == len(asked)


async def all_acknowledged(house: House) -> None:
    async def done() -> bool:
        info = await house.link.js.consumer_info("FEEDBACK", "ingestion-feedback")
        return bool(info.num_pending == 0 and info.num_ack_pending == 0)

    await eventually(done, 15)


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

    async def take(batch: list[RawMessage]) -> None:
        if full:
            raise ResourceExhausted("the disk is full", reason="DISK_FULL")
        await house.feedback.take(batch)

    consumer = BatchConsumer(house.link, "ingestion-feedback", 100, 0.2, take)
    await consumer.start()
    for at in range(3):
        await house.say("triage", kind="error", id=f"f{at}", source="desk", input="q")
    await eventually(lambda: "disk is full" in (consumer.check() or ""))
    assert (await house.link.js.consumer_info("FEEDBACK", "ingestion-feedback")).ack_floor.stream_seq == 0
    full = False
    await settled(house, {"error": 3})
    await consumer.stop(1)


async def test_a_correction_is_joined_to_its_inference_and_says_how_it_turned_out(house: House) -> None:
    await house.consume()
    await house.answer(inference("r1"), "triage")
    await eventually(lambda: signals.inferences(house.database, ("default", "triage"), ["r1"]))
    await house.say(
        "triage", kind="correction", id="f1", source="desk", request_id="r1", correction="fire", category="hw"
    )
    await settled(house, {"correction": 1})
    (row,) = await house.rows("triage")
    assert (row["input"], row["system"], row["output"]) == ("my printer burns", "be brief", "fire")
    assert (row["rejected"], row["version"], row["category"]) == ("wrong", 2, "hw")
    [(subject, outcome)] = await eventually(lambda: house.stored("OUTCOME"))
    assert subject == "outcome.default.triage"
    assert (outcome["signal"], outcome["reference_digest"]) == ("bad", answer_digest("fire"))
    assert (outcome["role"], outcome["generation"], outcome["unit"]) == ("canary", 3, "u1")
    assert "printer" not in str(outcome)


async def test_feedback_that_comes_before_its_inference_waits_for_it(house: House) -> None:
    await house.consume()
    await house.say("triage", kind="rating", rating=1, id="f1", source="desk", request_id="r1")
    await all_acknowledged(house)
    assert (await signals.intake(house.database, "default", "triage")).waiting == 1
    assert await house.rows("triage") == []
    await house.answer(inference("r1", output="right"), "triage")
    intake = await settled(house, {"rating": 1})
    assert intake.waiting == 0
    (row,) = await house.rows("triage")
    assert (row["input"], row["output"], row["signal"]) == ("my printer burns", "right", "good")
    [(_, outcome)] = await eventually(lambda: house.stored("OUTCOME"))
    assert outcome["reference_digest"] == answer_digest("right")


async def test_feedback_whose_inference_never_comes_goes_on_unjoined(house: House) -> None:
    house.patience = 0.5
    await house.stop()
    await house.start()
    await house.consume()
    await house.say("triage", kind="correction", id="f1", source="desk", request_id="gone", input="q", correction="a")
    await settled(house, {"correction": 1})
    assert [(row["input"], row["request_id"], row["version"]) for row in await house.rows("triage")] == [
        ("q", "gone", None)
    ]
    assert await house.stored("OUTCOME") == []


async def test_feedback_is_never_joined_to_another_tasks_inference(house: House) -> None:
    house.patience = 0.5
    await house.stop()
    await house.start()
    await house.apply("other")
    await house.consume()
    await house.answer(inference("r1"), "other")
    await house.say("triage", kind="correction", id="f1", source="desk", request_id="r1", input="q", correction="a")
    await settled(house, {"correction": 1})
    assert (await house.rows("triage"))[0]["version"] is None


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


async def test_several_signals_on_one_response_become_one_judgement_whenever_they_come(house: House) -> None:
    await house.consume()
    await house.answer(inference("r1"), "triage")
    await house.say("triage", kind="rating", rating=0, id="f1", source="app", request_id="r1", user="u1")
    await settled(house, {"rating": 1})
    await house.stop()
    await house.start()
    await house.consume()
    await house.say("triage", kind="correction", id="f2", source="desk", request_id="r1", correction="fire", user="u2")
    await settled(house, {"rating": 1, "correction": 1})
    rows = sorted(await house.rows("triage"), key=lambda row: row["revision"])
    first, last = (json.loads(row["judgement"]) for row in rows)
    assert [row["revision"] for row in rows] == [1, 2]
    assert (first["form"], first["label"], first["rejected"]) == ("kto", False, "wrong")
    assert (last["form"], last["output"], last["rejected"], last["bad"]) == ("preference", "fire", "wrong", 2)
    assert (rows[1]["form"], rows[1]["review"]) == ("preference", None)


async def test_our_own_long_answer_that_comes_back_as_a_correction_needs_a_persons_look(house: House) -> None:
    await house.consume()
    ours = "Please restart the printer, wait for the lamp and print a page. " * 5
    for request_id, output in (("r1", ours), ("r2", "wrong"), ("r3", "wrong")):
        await house.answer(inference(request_id, output), "triage")
    asked = ["r1", "r2", "r3"]
    await eventually(lambda: _all_logged(house, asked))
    others = ours.replace("restart", "unplug")
    about: dict[str, Any] = {"source": "desk"}
    await house.say("triage", kind="correction", id="echo", request_id="r2", correction=ours.upper(), **about)
    await house.say("triage", kind="correction", id="own", request_id="r3", correction=others, **about)
    await house.say("triage", kind="rating", rating=1, id="praise", request_id="r1", correction="x", **about)
    await settled(house, {"correction": 2, "rating": 1})
    told = {row["request_id"]: row["review"] for row in await house.rows("triage")}
    assert told["r2"] == "own output: the correction is word for word an answer of version 2"
    assert (told["r1"], told["r3"]) == (None, None)


async def test_feedback_on_a_conversation_with_tools_keeps_the_calls_their_results_and_the_tools(house: House) -> None:
    call = ToolCall(id="1", name="find", arguments='{"order": "7"}')
    asked = (
        Message(role="user", content="where is order 7?"),
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="at the harbour", tool_call_id="1"),
    )
    tools = '[{"type":"function","function":{"name":"find"}}]'
    for restarted in (False, True):
        if restarted:
            # What is remembered in memory is remembered in the database too.
            await house.stop()
            await house.start()
        await house.consume()
        name = f"{restarted}"
        await house.answer(inference(f"told-{name}", "no idea", messages=asked, tools=tools), "triage")
        await house.answer(inference(f"call-{name}", "", messages=asked[:1], tools=tools, tool_calls=(call,)), "triage")
        await eventually(partial(_all_logged, house, [f"told-{name}", f"call-{name}"]))
        if restarted:
            await house.stop()
            await house.start()
            await house.consume()
        await house.say("triage", kind="correction", id=f"a{name}", request_id=f"told-{name}", correction="There.")
        await house.say("triage", kind="rating", rating=1, id=f"b{name}", request_id=f"call-{name}")
        count = 1 + restarted
        await settled(house, {"correction": count, "rating": count})
        rows = {row["request_id"]: row for row in await house.rows("triage")}
        told, called = rows[f"told-{name}"], rows[f"call-{name}"]
        assert [each["role"] for each in json.loads(told["messages"])] == ["user", "assistant", "tool"]
        assert json.loads(told["messages"])[1]["tool_calls"][0]["function"]["name"] == "find"
        assert (told["output"], told["rejected"], told["tools"]) == ("There.", "no idea", tools)
        assert (called["messages"], called["input"], called["tools"]) == (None, "where is order 7?", tools)
        assert json.loads(called["output"]) == {"tool_calls": [{"name": "find", "arguments": '{"order": "7"}'}]}


async def test_a_log_whose_tools_are_no_list_becomes_a_dead_letter(house: House) -> None:
    await house.consume()
    wrong = json.loads(inference("r1").model_dump_json()) | {"tools": '{"find": 1}'}
    await house.link.js.publish("inference.default.triage", json.dumps(wrong).encode(), stream="INFERENCE")
    letters = await eventually(lambda: list_dead(house.link.js))
    assert "tools" in letters[0].reason


async def test_a_signal_from_before_its_inference_is_heard_with_those_after_it(house: House) -> None:
    await house.stop()
    house.patience = 0.0
    await house.start()
    await house.consume()
    await house.say("triage", kind="rating", rating=0, id="f1", source="app", request_id="r1", user="u1", input="q")
    await settled(house, {"rating": 1})
    await house.answer(inference("r1"), "triage")
    await eventually(lambda: signals.inferences(house.database, ("default", "triage"), ["r1"]))
    await house.say("triage", kind="correction", id="f2", source="desk", request_id="r1", correction="fire", user="u2")
    assert (await settled(house, {"rating": 1, "correction": 1})).duplicates == 0
    rows = sorted(await house.rows("triage"), key=lambda row: row["revision"])
    assert [row["revision"] for row in rows] == [1, 2]
    assert json.loads(rows[1]["judgement"])["bad"] == 2


async def test_outcomes_not_told_before_a_crash_are_told_when_the_feedback_comes_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.answer(inference("r1"), "triage")
    await house.consume()
    await eventually(lambda: signals.inferences(house.database, ("default", "triage"), ["r1"]))
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
    )
    await settled(house, {"correction": 1})
    (row,) = await house.rows("triage")
    assert "example.org" not in str(row)
    assert row["output"] == row["input"].replace("I am", "Hi")
    assert json.loads(row["personal"]) == {"email": 2}
