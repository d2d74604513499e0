"""What stands beside a question and its answer: system prompts, tools, categories; none is left out or made up."""

import json
from typing import Any

import pytest

from libs.contracts.task import ColumnMap
from services.ingestion.domain.columns import resolve, settle
from services.ingestion.domain.faults import BadRowError
from services.ingestion.domain.records import row_of
from services.ingestion.tests.test_shapes import ANSWER, ORIGIN, TOOLS, USER, read

BESIDE: list[dict[str, Any]] = [
    {"messages": [USER, ANSWER]},
    {"conversations": [{"from": "human", "value": USER["content"]}, {"from": "gpt", "value": ANSWER["content"]}]},
    {"prompt": USER["content"], "completion": ANSWER["content"]},
    {"prompt": [USER], "completion": [ANSWER]},
    {"question": USER["content"], "answer": ANSWER["content"]},
    {"instruction": USER["content"], "output": ANSWER["content"]},
    {"input": USER["content"], "output": ANSWER["content"]},
    {"input": [USER], "output": [ANSWER]},
    {"prompt": [USER], "chosen": [ANSWER], "rejected": [{"role": "assistant", "content": "No."}]},
]


@pytest.mark.parametrize("record", BESIDE)
def test_a_system_prompt_and_tools_beside_what_is_asked_are_never_left_out(record: dict[str, Any]) -> None:
    told, row = read({**record, "system": "Be brief.", "tools": TOOLS})
    assert (row.system, row.input, row.output) == ("Be brief.", USER["content"], ANSWER["content"]), told
    assert json.loads(row.tools or "") == TOOLS
    if row.messages is not None:
        assert json.loads(row.messages)[0] == {"role": "system", "content": "Be brief."}
    assert read({**record, "system": " ", "tools": []})[1].system is None
    with pytest.raises(BadRowError, match="system: must be text"):
        read({**record, "system": 3})


def test_a_system_prompt_is_said_once() -> None:
    told = {"role": "system", "content": "Be brief."}
    _, row = read({"messages": [told, USER, ANSWER], "system": "Be brief. "})
    assert row.system == "Be brief."
    assert read({"messages": [told, USER, ANSWER], "system": "And kind."})[1].system == "And kind.\n\nBe brief."


def test_a_mapped_system_prompt_stands_in_the_conversation_too() -> None:
    record = {"m": [USER, ANSWER, {"role": "user", "content": "And here?"}], "o": "Rain.", "s": "Be brief."}
    _, row = read(record, input="m", output="o", system="s")
    assert row.system == "Be brief."
    assert json.loads(row.messages or "")[0] == {"role": "system", "content": "Be brief."}
    # What is called so beside columns that somebody mapped may be anything.
    assert read({"q": "2+2?", "a": "4", "system": "SAP", "tools": "hammer"}, input="q", output="a")[1].system is None
    assert read({"input": "2+2?", "output": "4", "tools": "hammer"})[1].tools is None


def test_a_category_is_the_answer_only_where_no_record_of_the_file_has_one() -> None:
    chat, open_ = {"messages": [USER, ANSWER], "topic": "weather"}, {"messages": [USER], "topic": "weather"}
    wish = resolve(ColumnMap(), {"category": "topic"})
    assert row_of(open_, 1, settle(wish, list(open_), [open_, open_]), ORIGIN).output == "weather"
    columns = settle(wish, list(chat), [open_, chat])
    assert row_of(chat, 1, columns, ORIGIN).output == ANSWER["content"]
    with pytest.raises(BadRowError, match="messages: there is no answer to learn"):
        row_of(open_, 2, columns, ORIGIN)
    # By whichever door the conversation is named.
    mapped = settle(resolve(ColumnMap(), {"input": "messages", "category": "topic"}), list(chat), [open_, chat])
    with pytest.raises(BadRowError, match="there is no answer to learn"):
        row_of(open_, 2, mapped, ORIGIN)
