"""Every published shape of training data is told from its records, and nothing a record says is lost."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.contracts.task import ColumnMap
from services.ingestion.domain.columns import resolve, settle
from services.ingestion.domain.conversations import Conversation, dump
from services.ingestion.domain.faults import BadRowError
from services.ingestion.domain.records import Origin, row_of
from services.ingestion.domain.rows import Row, hashed_user, stable_id

ORIGIN = Origin("default", "a.jsonl", "crm", datetime(2026, 1, 1, tzinfo=UTC))
USER = {"role": "user", "content": "Weather in Ulm?"}
CALL = {
    "id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Ulm"}'},
}  # fmt: skip
CALLS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "12 C"}
ANSWER = {"role": "assistant", "content": "12 degrees."}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def read(record: dict[str, Any], **columns: str) -> tuple[str, Row]:
    chosen = settle(resolve(ColumnMap(), columns), list(record), [record])
    return chosen.shape, row_of(record, 1, chosen, ORIGIN)


def test_a_number_that_links_a_result_to_its_call_is_its_text_and_anything_else_is_refused() -> None:
    call = {**CALLS, "tool_calls": [{**CALL, "id": 7}]}
    result: dict[str, Any] = {**RESULT, "tool_call_id": 7, "name": 8}
    record = {"messages": [USER, call, result, ANSWER], "tools": TOOLS}
    messages = json.loads(read(record)[1].messages or "")
    assert (messages[1]["tool_calls"][0]["id"], messages[2]["tool_call_id"], messages[2]["name"]) == ("7", "7", "8")
    result["tool_call_id"] = ["c1"]
    with pytest.raises(BadRowError, match="tool_call_id: must be text, not a list"):
        read(record)


@pytest.mark.parametrize(
    ("record", "shape", "form", "asked", "answer", "rejected"),
    [
        ({"messages": [USER, ANSWER]}, "openai-messages", "sft", "Weather in Ulm?", "12 degrees.", None),
        (
            {
                "input": {"messages": [USER], "tools": TOOLS},
                "preferred_output": [ANSWER],
                "non_preferred_output": [{"role": "assistant", "content": "No idea."}],
            },
            "openai-dpo", "preference", "Weather in Ulm?", "12 degrees.", "No idea.",
        ),
        ({"text": "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n"}, "trl-text", "sft", "2+2?",
         "4", None),
        ({"prompt": "2+2?", "completion": "4"}, "trl-prompt-completion", "sft", "2+2?", "4", None),
        ({"prompt": [USER], "completion": [ANSWER]}, "trl-prompt-completion", "sft", "Weather in Ulm?", "12 degrees.",
         None),
        ({"prompt": "2+2?", "chosen": "4", "rejected": "5"}, "trl-preference", "preference", "2+2?", "4", "5"),
        (
            {"chosen": [USER, ANSWER], "rejected": [USER, {"role": "assistant", "content": "No."}]},
            "trl-preference", "preference", "Weather in Ulm?", "12 degrees.", "No.",
        ),
        (
            {"chosen": "\n\nHuman: 2+2?\n\nAssistant: 4", "rejected": "\n\nHuman: 2+2?\n\nAssistant: 5\n\nor 6"},
            "trl-preference", "preference", "2+2?", "4", "5\n\nor 6",
        ),
        ({"prompt": "2+2?", "completion": "4", "label": True}, "trl-kto", "kto", "2+2?", "4", None),
        ({"prompt": [USER], "completion": [ANSWER], "label": False}, "trl-kto", "kto", "Weather in Ulm?", None,
         "12 degrees."),
        (
            {"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}], "system": "Count."},
            "sharegpt", "sft", "2+2?", "4", None,
        ),
        ({"instruction": "Add.", "input": "2, 2", "output": "4"}, "alpaca", "sft", "Add.\n\n2, 2", "4", None),
        ({"instruction": "Add.", "output": "4", "history": [["1+1?", "2"]]}, "alpaca", "sft", "Add.", "4", None),
        ({"question": "2+2?", "answer": "4"}, "question-answer", "sft", "2+2?", "4", None),
        (
            {
                "context": json.dumps([{"role": "user", "text": "films?"}, {"role": "api", "response": {"n": 1}}]),
                "generation": json.dumps({"role": "agent", "api": {"find": {"city": "Ulm"}}}),
                "reward": 0.0,
            },
            "rewarded-dialogue", "kto", '{"response":{"n":1}}', None, '{"api":{"find":{"city":"Ulm"}}}',
        ),
    ],
)  # fmt: skip
def test_the_shape_is_told_from_the_record(
    record: dict[str, Any], shape: str, form: str, asked: str, answer: str | None, rejected: str | None
) -> None:
    told, row = read(record)
    assert (told, row.form, row.input, row.output, row.rejected) == (shape, form, asked, answer, rejected)
    assert row.signal == ("bad" if row.label is False else "good")


def test_tool_calls_their_results_typed_parts_and_weights_survive_whole() -> None:
    parts = [{"type": "text", "text": "And here?"}, {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]
    turns = [
        {"role": "system", "content": "be kind"}, USER, CALLS, RESULT, {**ANSWER, "weight": 0},
        {"role": "user", "content": parts, "name": "ada"}, {"role": "assistant", "content": "Rain."},
    ]  # fmt: skip
    _, row = read({"messages": turns, "tools": TOOLS})
    assert json.loads(row.messages or "") == turns
    assert json.loads(row.tools or "") == TOOLS
    assert (row.system, row.input, row.output) == ("be kind", "And here?\n<image_url>", "Rain.")
    assert [turn["role"] for turn in json.loads(row.history or "")] == ["user", "assistant", "tool", "assistant"]


def test_an_answer_that_calls_a_tool_is_an_answer() -> None:
    _, row = read({"messages": [USER, CALLS], "tools": TOOLS})
    assert json.loads(row.output or "") == {"tool_calls": [CALL["function"]]}
    assert json.loads(row.messages or "")[-1] == CALLS


def test_sharegpt_calls_and_observations_become_tool_calls_and_results() -> None:
    call = json.dumps({"name": "weather", "arguments": {"city": "Ulm"}})
    turns = [("human", "Weather?"), ("function_call", call), ("observation", "12 C"), ("gpt", "12 degrees.")]
    record = {"conversations": [{"from": who, "value": said} for who, said in turns], "tools": json.dumps(TOOLS)}
    _, row = read(record)
    kept = json.loads(row.messages or "")
    assert [turn["role"] for turn in kept] == ["user", "assistant", "tool", "assistant"]
    assert kept[1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Ulm"}'}


@pytest.mark.parametrize(
    ("turns", "at"),
    [
        ([USER, {"role": "assistant", "content": None, "id": "msg_1", "timestamp": "2024-01-01"}], 1),
        ([USER, {"role": "assistant", "message": "hi"}], 1),
        ([{"role": "user", "content": None, "id": 7}, ANSWER], 0),
    ],
)
def test_what_stands_beside_a_turn_without_words_is_never_learnt_for_it(turns: list[dict[str, Any]], at: int) -> None:
    with pytest.raises(BadRowError) as raised:
        read({"messages": turns})
    assert (raised.value.field, raised.value.reason) == (f"messages[{at}].content", "is missing")


def test_a_refusal_is_what_it_says_and_not_what_stands_beside_it() -> None:
    refusal: dict[str, Any] = {"role": "assistant", "content": None, "refusal": "I cannot.", "annotations": []}
    _, row = read({"messages": [USER, refusal]})
    assert row.output == "I cannot."


def test_arguments_are_read_under_each_of_their_names_and_never_made_up() -> None:
    def called(*functions: dict[str, Any]) -> list[Any]:
        calls = [{"function": each} for each in functions]
        _, row = read({"messages": [USER, {"role": "assistant", "content": None, "tool_calls": calls}]})
        return [each["arguments"] for each in json.loads(row.output or "")["tool_calls"]]

    assert called({"name": "f", "parameters": {"x": 1}}, {"name": "g", "arguments": {}}) == ['{"x":1}', "{}"]
    assert called({"name": "f", "arguments": None, "parameters": {"x": 1}}) == ['{"x":1}']
    for bare in ({"name": "f"}, {"name": "f", "arguments": None}, {"name": "f", "input": {"x": 1}}):
        with pytest.raises(BadRowError, match="needs arguments"):
            called(bare)
    for wrong in (float("nan"), datetime(2026, 1, 1, tzinfo=UTC)):
        with pytest.raises(BadRowError, match="holds what JSON cannot say"):
            called({"name": "f", "arguments": {"x": wrong}})


def test_sharegpt_calls_may_be_several_at_once() -> None:
    calls = json.dumps([{"name": "f", "arguments": {"x": 1}}, {"name": "g", "parameters": {}}])
    _, row = read({"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": calls}]})
    told = json.loads(row.messages or "")[-1]["tool_calls"]
    assert [each["function"] for each in told] == [
        {"name": "f", "arguments": '{"x":1}'},
        {"name": "g", "arguments": "{}"},
    ]
    assert len({each["id"] for each in told}) == 2


def test_a_rejected_answer_that_is_a_call_is_kept_whole() -> None:
    _, row = read({"prompt": [USER], "chosen": [ANSWER], "rejected": [CALLS], "tools": TOOLS})
    assert json.loads(row.rejected_messages or "") == [CALLS]


def test_a_column_map_of_the_caller_stands_above_any_shape() -> None:
    record = {
        "instruction": "Add.",
        "output": "4",
        "reply": "four",
        "ok": "true",
        "who": 7,
        "terms": "CC0",
        "may": "no",
    }
    shape, row = read(record, input="instruction", output="reply", user="who", licence="terms", consent="may")
    assert (shape, row.output, row.licence, row.consent) == ("columns", "four", "CC0", False)
    assert row.user is not None
    assert read(record, input="instruction", output="reply", label="ok")[1].label is True


def test_a_category_is_not_the_answer_of_a_record_that_has_one() -> None:
    record = {"input": "where is it", "output": "On its way.", "topic": "delivery"}
    _, row = read(record, category="topic")
    assert (row.output, row.category) == ("On its way.", "delivery")
    for column in ("", "topic"):
        assert read(record, category="topic", output=column)[1].output == "delivery"
    assert read({"input": "where is it", "topic": "delivery"}, category="topic")[1].output == "delivery"


def test_columns_beside_a_shape_are_carried_through() -> None:
    record = {"messages": [USER, ANSWER], "topic": "weather", "thread": 12}
    shape, row = read(record, category="topic", group="thread")
    assert (shape, row.category, row.group) == ("openai-messages", "weather", "12")


def test_what_the_task_maps_is_read_of_a_record_far_down_a_file_whose_first_ones_have_none_of_it() -> None:
    first, late = {"messages": [USER, ANSWER]}, {"messages": [USER, ANSWER], "may": False, "who": "bob"}
    columns = settle(resolve(ColumnMap(consent="may", user="who"), {}), list(first), [first])
    row = row_of(late, 201, columns, ORIGIN)
    assert (row.consent, row.user) == (False, hashed_user("default", "bob"))
    assert row_of(first, 1, columns, ORIGIN).consent is None


@pytest.mark.parametrize("asked", [{"instruction": "Weather?"}, {"prompt": "Weather?"}, {"question": "Weather?"}])
def test_an_answer_with_more_to_it_than_its_text_keeps_all_of_it(asked: dict[str, Any]) -> None:
    answer = {"instruction": "output", "prompt": "completion", "question": "answer"}[next(iter(asked))]
    for said in ([CALLS, RESULT, ANSWER], [{**ANSWER, "weight": 0}], [{**ANSWER, "reasoning_content": "Look."}]):
        _, row = read({**asked, answer: said})
        assert json.loads(row.messages or "") == [{"role": "user", "content": "Weather?"}, *said]
    assert read({**asked, answer: [ANSWER]})[1].messages is None


def test_an_answer_that_is_json_is_not_taken_for_messages() -> None:
    _, row = read({"prompt": "who may?", "completion": '[{"role": "admin", "may": true}]'})
    assert row.output == '[{"role": "admin", "may": true}]'
    assert read({"prompt": "which parcels are lost?", "completion": "[]"})[1].output == "[]"
    assert read({"prompt": "which?", "chosen": "[]", "rejected": "none"})[1].output == "[]"


@pytest.mark.parametrize(
    ("record", "field", "reason"),
    [
        ({"messages": []}, "messages", "must be a list of messages"),
        ({"messages": [{"role": "wizard", "content": "x"}, ANSWER]}, "messages[0].role", "must be one of"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, "messages[1].content", "is missing"),
        ({"messages": [{**USER, "content": [{"type": "hologram"}]}, ANSWER]}, "messages[0].content[0]", "hologram"),
        ({"messages": [USER, {**ANSWER, "weight": 3}]}, "messages[1].weight", "must be 0 or 1"),
        ({"messages": [USER, {**CALLS, "tool_calls": [{"id": "x"}]}]}, "messages[1].tool_calls[0]", "a name"),
        ({"messages": [ANSWER]}, "messages", "nobody asks anything"),
        ({"messages": [USER, {**ANSWER, "content": ""}]}, "messages", "the answer is empty"),
        ({"messages": [USER]}, "messages", "there is no answer to learn"),
        ({"messages": [{**USER, "content": "a\x00b"}, ANSWER]}, "messages[0].content", "a NUL character"),
        ({"messages": [{**USER, "name": "\ud800"}, ANSWER]}, "messages", "half a surrogate pair"),
        ({"prompt": "q", "completion": "a", "label": "maybe"}, "label", "must be true or false"),
        ({"prompt": "q", "completion": 12}, "completion", "must be text, not a number"),
        ({"chosen": [USER, ANSWER], "rejected": [USER, ANSWER]}, "rejected", "is the same conversation"),
        ({"instruction": "q", "output": "a", "history": ["x"]}, "history[0]", "must be a pair"),
        ({"input": {}, "preferred_output": [], "non_preferred_output": []}, "input", "an object with messages"),
    ],
)
def test_a_bad_record_names_its_field_and_what_is_wrong(record: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(BadRowError) as raised:
        read(record)
    assert raised.value.field == field
    assert reason in raised.value.reason


@given(st.text(st.characters(codec=None)), st.sampled_from(["user", "assistant"]))
def test_what_is_written_without_an_encoder_reads_as_with_one(text: str, role: str) -> None:
    talk = Conversation(({"role": role, "content": text},), None, None, "q", None)
    assert talk.to_json() == dump([{"role": role, "content": text}])
    plain = json.dumps([text, role], ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert stable_id("imp", text, role) == f"imp-{hashlib.sha256(plain).hexdigest()[:32]}"
