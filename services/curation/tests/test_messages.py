"""A conversation with parts, calls and layout is repaired, redacted and published as the conversation it is."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from libs.contracts.errors import DataLoss
from services.curation.compute.pipeline import curate
from services.curation.compute.publish import line_of
from services.curation.compute.rows import load
from services.curation.domain.messages import answer, flat, rewritten_tools
from services.curation.domain.review import Decision
from services.curation.domain.rows import Row
from services.curation.domain.split import TRAIN
from services.curation.domain.text import normalise
from services.curation.tests.conftest import ALL_TRAIN, build_rows, context_for, row, write_segment

IMAGE = {"type": "image_url", "image_url": {"url": "https://shop.test/a.png"}}


def call(**arguments: Any) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": "find", "arguments": json.dumps(arguments)}}


def published(home: Path, messages: list[dict[str, Any]], **given: Any) -> list[dict[str, Any]]:
    """The messages of a conversation after a whole build, from the segment on."""
    line = {
        "row_id": "r", "kind": "example", "source": "crm", "input": "flat", "output": "flat", "signal": "good",
        "system": None, "category": None, "group": None, "request_id": None, "created_at": row(0, "").created_at,
        "messages": json.dumps(messages), **given,
    }  # fmt: skip
    path = home / "segment.parquet"
    pl.DataFrame([line]).with_columns(consent=pl.lit(None, pl.Boolean)).write_parquet(path)
    method = "kto" if given.get("label") is False else "lora"
    known = {"undone": frozenset({"not_text"})}
    version = curate(load([(1, path)]), context_for(known=known, data=ALL_TRAIN, recipe={"method": method}))
    (kept,) = version.splits[TRAIN]
    told: list[dict[str, Any]] = line_of(kept, "")["messages"]
    return told


def test_an_answer_that_is_a_call_is_published_as_a_call_and_not_as_its_text(tmp_path: Path) -> None:
    asked = {"role": "user", "content": "where is order 7?"}
    answer = {"role": "assistant", "content": None, "tool_calls": [call(order="7")]}
    assert published(tmp_path, [asked, answer]) == [asked, answer]


@pytest.mark.parametrize("answer", [{"content": "in 1 week"}, {"content": None, "tool_calls": [call(order="7")]}])
def test_a_conversation_with_a_bad_answer_keeps_its_question(tmp_path: Path, answer: dict[str, Any]) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "where is order 7?"}, {"role": "assistant", **answer}]
    assert published(tmp_path, messages, output=None, rejected="flat", label=False, signal="bad") == messages


def test_an_answer_of_no_weight_is_never_learnt_and_the_last_one_of_weight_is(tmp_path: Path) -> None:
    asked = {"role": "user", "content": "what is the capital of France?"}
    taught = {"role": "assistant", "content": "Paris, as if nobody knew."}
    more, muted = {"role": "user", "content": "be nicer"}, {"role": "assistant", "content": "no", "weight": 0}
    assert published(tmp_path, [asked, taught, more, muted]) == [asked, taught]
    kept: list[dict[str, Any]] = [asked, muted, more, {**taught, "weight": 1}]
    assert published(tmp_path, kept) == kept
    with pytest.raises(ValueError, match="not enough values"):
        published(tmp_path, [asked, muted, more, {**taught, "weight": 0}])


def test_personal_data_leaves_parts_calls_results_and_the_system_prompt(tmp_path: Path) -> None:
    mail = "ann.lee@shop.test"
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": f"you write for {mail}"},
        {"role": "user", "content": [{"type": "text", "text": f"I am {mail}"}, IMAGE]},
        {"role": "assistant", "content": None, "tool_calls": [call(mail=mail)]},
        {"role": "tool", "tool_call_id": "c1", "content": f"{mail} owes 3"},
        {"role": "user", "content": [{"type": "text", "text": f"write to {mail} then"}, IMAGE]},
        {"role": "assistant", "content": None, "tool_calls": [call(to=mail)]},
    ]
    told = published(tmp_path, messages)
    assert mail not in json.dumps(told)
    assert json.dumps(told).count("<EMAIL_") == 6
    assert told[1]["content"][1] == IMAGE
    assert told[4]["content"][1] == IMAGE
    assert json.loads(told[5]["tool_calls"][0]["function"]["arguments"])["to"].startswith("<EMAIL_")
    assert told[5]["content"] is None


def test_a_repair_of_one_part_leaves_the_others(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"role": "user", "content": [{"type": "text", "text": "schÃ¶n  so"}, IMAGE]}
    earlier: dict[str, Any] = {"role": "user", "content": "schÃ¶n"}
    yes, fine = ({"role": "assistant", "content": text} for text in ("ja", "ok"))
    told = published(tmp_path, [earlier, yes, asked, fine])
    assert told[0]["content"] == "schön"
    assert told[2]["content"] == [{"type": "text", "text": "schön so"}, IMAGE]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"input_as": json.dumps({"role": "user", "content": [IMAGE]})}, "input.content[0]: image_url is no text"),
        (
            {"answer_as": json.dumps({"role": "assistant", "content": None, "tool_calls": [
                {"function": {"name": "find", "arguments": "{order"}}]})},
            "answer.tool_calls[0]: the arguments are no JSON object",
        ),
        (
            {"history": json.dumps([{"role": "user", "content": ["x"]}, {"role": "assistant", "content": "y"}])},
            "history[0].content[0]: str is no text",
        ),
    ],
)  # fmt: skip
def test_what_no_base_can_read_is_set_aside_and_named(fields: dict[str, Any], why: str) -> None:
    calls = json.dumps({"role": "assistant", "content": None, "tool_calls": [call(order="7")]})
    rows = [row(0, "what is on this picture", "a cat", **fields), row(1, "find order 7", "calls", answer_as=calls)]
    version = build_rows(rows, data=ALL_TRAIN)
    assert version.ledger.removed == {"row-00000": "not_text"}
    assert version.ledger.examples["not_text"][0]["detail"] == why


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("def f(x):\r\n    if x:\r\n\treturn  x   \r\n", "def f(x):\n    if x:\n\treturn  x"),
        ("| a  | b |\n|  1 | 2 |", "| a  | b |\n|  1 | 2 |"),
        ("  one   line\u00a0 only\u200b ", "one line only"),
        ("\n\n\n\n\none\n\n\n\n\n\ntwo\n\n", "one\n\n\ntwo"),
        ("\x0b \u2003 \n\t", ""),
        (' {"code": "if x:\\n    return  1"} ', '{"code": "if x:\\n    return  1"}'),
        ("[no  JSON]", "[no JSON]"),
    ],
)
def test_layout_that_carries_meaning_stays_and_needless_blanks_go(text: str, stored: str) -> None:
    assert normalise(text) == stored
    assert normalise(stored) == stored


def test_a_row_keeps_what_no_repair_touches_to_the_letter() -> None:
    code: Row = row(0, "fix this", "for x in y:\n    print(x)")
    version = build_rows([code], data=ALL_TRAIN)
    assert version.splits[TRAIN][0].answer == code.answer
    assert version.ledger.edits() == {}


def test_a_tool_may_give_nothing_back(tmp_path: Path) -> None:
    asked = {"role": "user", "content": "forget order 7"}
    called = {"role": "assistant", "content": None, "tool_calls": [call(order="7")]}
    nothing, done = {"role": "tool", "tool_call_id": "c1", "content": ""}, {"role": "assistant", "content": "done"}
    messages: list[dict[str, Any]] = [asked, called, nothing, done]
    assert published(tmp_path, messages) == messages
    messages[2] = {"role": "user", "content": " "}
    with pytest.raises(ValueError, match="not enough values"):
        published(tmp_path, messages)


def test_a_call_that_a_reviewer_edits_stays_a_call() -> None:
    whole = {"role": "assistant", "content": None, "tool_calls": [call(order="7")]}
    tools = json.dumps([{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}])
    for fields in ({"answer_as": json.dumps(whole), "tools": tools}, {"answer_as": json.dumps(whole)}):
        given = row(0, "where is order 8", flat(whole), **fields)
        edit = Decision(given.row_id, "edited", answer=flat(whole).replace("7", "8"), by="ann")
        version = build_rows([given], data=ALL_TRAIN, known={"decisions": {given.row_id: edit}})
        (kept,) = version.splits[TRAIN]
        told = line_of(kept, "")["messages"][-1]
        (called,) = told["tool_calls"]
        assert (told["content"], json.loads(called["function"]["arguments"])) == (None, {"order": "8"})
    assert answer("I cannot", json.dumps(whole), tools) == {"role": "assistant", "content": "I cannot"}
    assert answer(flat(whole), None, None)["content"] == flat(whole), "no tool was offered"


def test_what_a_property_of_a_tool_says_is_rewritten_whatever_the_property_is_called() -> None:
    def tool(said: str) -> str:
        each = {
            "type": "string", "pattern": "a@b", "description": said, "enum": [said, "me"],
            "default": {"name": said, "type": [said]},
        }  # fmt: skip
        properties = dict.fromkeys(("name", "type", "format", "pattern", "required", "to"), each)
        schema = {"type": ["object", "null"], "properties": properties, "required": ["name"]}
        return json.dumps([{"type": "function", "function": {"name": "a@b", "parameters": schema}}])

    changed = rewritten_tools(tool("a@b"), lambda text: text.replace("a@b", "x"))
    assert changed is not None
    assert json.loads(changed) == json.loads(tool("x"))


@pytest.mark.parametrize("history", ["not json", '{"a": 1}', '["x"]', "null"])
def test_a_segment_whose_turns_are_none_is_named_with_its_row(tmp_path: Path, history: str) -> None:
    path = write_segment(tmp_path / "s.parquet", [row(0, "why", history=history)])
    with pytest.raises(DataLoss, match="row row-00000: history is no list of turns"):
        load([(1, path)])
