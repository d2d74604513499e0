"""Feedback is joined to its inference from either side, and what all say of one response is one judgement."""

import asyncio
import json
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select

from libs.contracts.answers import answer_digest
from libs.contracts.inference import Message, ToolCall
from libs.eventing.batches import BatchConsumer
from libs.eventing.deadletters import list_dead
from libs.testing.wait import eventually
from services.ingestion.handlers import feedback
from services.ingestion.handlers.progress import Progress
from services.ingestion.store import inferences, signals
from services.ingestion.store.tables import SAID
from services.ingestion.tests.conftest import House, all_acknowledged, inference, settled


async def _all_logged(house: House, asked: list[str]) -> bool:
    return len(await inferences.find(house.database, ("default", "triage"), asked)) == len(asked)


async def test_a_correction_is_joined_to_its_inference_and_says_how_it_turned_out(house: House) -> None:
    await house.consume()
    await house.answer(inference("r1"), "triage")
    await eventually(lambda: inferences.find(house.database, ("default", "triage"), ["r1"]))
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


async def test_patience_does_not_end_while_the_inference_lies_unread(house: House) -> None:
    house.patience = 0.5
    await house.stop()
    await house.start()
    await house.answer(inference("r1"), "triage")
    await house.answer(inference("r2"), "triage")
    consumer = BatchConsumer(house.link, "ingestion-feedback", 1000, 0.2, house.feedback.take)
    await consumer.start()
    for name in ("r1", "gone"):
        await house.say("triage", kind="rating", rating=0, id=name, source="desk", request_id=name, input="q")
    await all_acknowledged(house)
    await consumer.stop(1)
    await asyncio.sleep(1.0)
    assert await house.feedback.release() == 0
    await house.consume()
    await settled(house, {"rating": 2})
    rows = {row["request_id"]: row["input"] for row in await house.rows("triage")}
    assert rows == {"r1": "my printer burns", "gone": "q"}


async def test_how_far_a_consumer_is_does_not_wait_for_a_stream_that_never_rests(house: House) -> None:
    progress = Progress(house.link, "INFERENCE", "ingestion-inference")

    def until(now: float, last: int, floor: int) -> float:
        progress.note(now, last, floor, idle=False)
        return progress._until

    assert [until(1.0, 10, 3), until(2.0, 20, 10), until(3.0, 30, 25)] == [0.0, 1.0, 2.0]
    assert until(4.0, 30, 30) == 4.0, "nothing was published meanwhile"
    for now in range(10, 5000):
        until(float(now), 10 * now, 40)
    assert len(progress._marks) <= 1001
    assert until(5000.0, 50_000, 49_000) <= 4900.0
    assert until(5001.0, 50_010, 50_000) == 5000.0


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


async def test_what_a_crowd_says_of_one_response_is_bounded_and_a_person_looks_at_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "MOST_WORDS", 5)
    await house.answer(inference("r1"), "triage")
    for at in range(8):
        await house.say("triage", kind="rating", rating=0, id=f"{at}", source="app", request_id="r1", user=f"u{at}")
    await house.consume()
    await settled(house, {"rating": 8})
    rows = await house.rows("triage")
    judged = [row for row in rows if row["judgement"]]
    assert len(judged) < len(rows), "of those that came together the last says what all said"
    told = json.loads(max(judged, key=lambda row: row["revision"])["judgement"])
    assert (told["bad"], len(told["rows"]), told["review"].partition(":")[0]) == (5, 5, "crowd")
    await house.say("triage", kind="rating", rating=1, id="late", source="app", request_id="r1", user="late")
    await settled(house, {"rating": 9})
    (late,) = [row for row in await house.rows("triage") if row["signal"] == "good"]
    assert (late["revision"], json.loads(late["judgement"])) == (6, told)


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
    await house.stop()
    await house.start()
    await house.consume()
    await house.answer(inference("r4", "wrong"), "triage")
    await eventually(lambda: _all_logged(house, ["r4"]))
    await house.say("triage", kind="correction", id="later", request_id="r4", correction=ours, **about)
    await settled(house, {"correction": 3, "rating": 1})
    (later,) = [row for row in await house.rows("triage") if row["request_id"] == "r4"]
    assert later["review"] == told["r2"], "what was answered before a restart is known after it"


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


@pytest.mark.parametrize("together", [True, False])
async def test_an_answer_that_goes_on_with_the_assistants_own_words_teaches_nothing(
    house: House, together: bool
) -> None:
    asked = (Message(role="user", content="Write JSON"), Message(role="assistant", content='{"a":'))
    await house.consume()
    await house.answer(inference("r1", "1}", messages=asked), "triage")
    await eventually(partial(_all_logged, house, ["r1"]))
    signals_: list[dict[str, Any]] = [
        {"kind": "rating", "rating": 1, "output": "1}"},
        {"kind": "correction", "correction": "2}"},
        {"kind": "preference", "chosen": "2}", "rejected": "1}"},
        {"kind": "rating", "rating": 0},
    ]
    counted = {"rating": 0, "correction": 0, "preference": 0}
    for at, said in enumerate(signals_):
        user = "u" if together else f"u{at}"
        await house.say("triage", id=f"{at}", source="desk", request_id="r1", user=user, input="Write JSON", **said)
        counted[said["kind"]] += 1
        await settled(house, {kind: count for kind, count in counted.items() if count})
    rows = await house.rows("triage")
    assert [row["signal"] for row in rows] == ["good", "bad", "bad", "bad"]
    for row in (*rows, *(json.loads(row["judgement"]) for row in rows)):
        assert (row["form"], row["output"], row["rejected"], row["label"]) == (None, None, None, None)


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
    await eventually(lambda: inferences.find(house.database, ("default", "triage"), ["r1"]))
    await house.say("triage", kind="correction", id="f2", source="desk", request_id="r1", correction="fire", user="u2")
    assert (await settled(house, {"rating": 1, "correction": 1})).duplicates == 0
    rows = sorted(await house.rows("triage"), key=lambda row: row["revision"])
    assert [row["revision"] for row in rows] == [1, 2]
    assert json.loads(rows[1]["judgement"])["bad"] == 2


async def test_a_response_is_forgotten_whole_so_that_who_speaks_of_it_later_is_heard(house: House) -> None:
    await house.consume()
    await house.answer(inference("r1"), "triage")
    await eventually(partial(_all_logged, house, ["r1"]))
    for at in range(3):
        await house.say("triage", kind="rating", rating=0, id=f"{at}", source="app", request_id="r1", user=f"u{at}")
        await settled(house, {"rating": at + 1})
    async with house.database.unit() as unit:
        await unit.session.execute(SAID.update().where(SAID.c.revision < 3).values(stored_at=1.0))
        await inferences.forget(unit, 2.0)
    await house.say("triage", kind="rating", rating=0, id="late", source="app", request_id="r1", user="late")
    await settled(house, {"rating": 4})
    assert max(row["revision"] for row in await house.rows("triage")) == 4
    async with house.database.unit() as unit:
        await unit.session.execute(SAID.update().values(stored_at=1.0))
        await inferences.forget(unit, 2.0)
    async with house.database.reading() as session:
        assert (await session.execute(select(SAID.c.revision))).all() == []
