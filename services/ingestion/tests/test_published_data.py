"""Published files, imported as they are; an OpenAI fine-tuning file in the form its documentation gives."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from libs.contracts.errors import InvalidInput
from libs.contracts.task import ColumnMap
from services.ingestion.compute import files
from services.ingestion.domain.columns import resolve, settle
from services.ingestion.store.imports import quarantine_of
from services.ingestion.tests.conftest import House

SHARED = Path(__file__).parents[4] / "shared" / "data"
CALL = {
    "id": "call_id",
    "type": "function",
    "function": {"name": "get_current_weather", "arguments": '{"location": "San Francisco, USA", "format": "celsius"}'},
}
TOOL = {"name": "get_current_weather", "parameters": {"type": "object", "properties": {}, "required": ["location"]}}
OPENAI: list[dict[str, Any]] = [
    {
        "messages": [
            {"role": "user", "content": "What is the weather in San Francisco?"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
        ],
        "parallel_tool_calls": False,
        "tools": [{"type": "function", "function": TOOL}],
    },
    {
        "messages": [
            {"role": "system", "content": "Marv is a factual chatbot that is also sarcastic."},
            {"role": "user", "content": "What's the capital of France?"},
            {"role": "assistant", "content": "Paris", "weight": 0},
            {"role": "user", "content": "Can you be more sarcastic?"},
            {"role": "assistant", "content": "Paris, as if everyone doesn't know that already.", "weight": 1},
        ]
    },
]


async def test_an_openai_fine_tuning_file_is_taken_as_it_is(house: House) -> None:
    data = "\n".join(json.dumps(each) for each in OPENAI).encode()
    record = await house.import_bytes(data, name="training.jsonl")
    assert (record.shape, record.accepted, record.quarantined) == ("openai-messages", 2, 0)
    called, talked = await house.rows("triage")
    assert json.loads(called["messages"]) == OPENAI[0]["messages"]
    assert json.loads(called["tools"]) == OPENAI[0]["tools"]
    assert json.loads(talked["messages"]) == OPENAI[1]["messages"]


@pytest.mark.skipif(not SHARED.exists(), reason="the published data is not here")
@pytest.mark.parametrize("number", [0, 1])
async def test_rewarded_dialogues_are_taken_as_they_are(house: House, number: int) -> None:
    path = SHARED / f"dialog_rewards_{number}.json"
    data = await asyncio.to_thread(path.read_bytes)
    record = await house.import_bytes(data, name=path.name, columns={"group": "conversation_id"})
    given = json.loads(data)
    assert (record.format, record.shape) == ("json", "rewarded-dialogue")
    answered = [each for each in given if json.loads(each["generation"]).get("text") != ""]
    assert (record.rows, record.accepted) == (len(given), len(answered))
    bad = await quarantine_of(house.database, record.import_id, 10)
    assert [each.reason for each in bad] == ["the answer is empty"] * (len(given) - len(answered))
    rows = await house.rows("triage")
    for row, source in zip(rows, answered, strict=True):
        assert row["label"] == (source["reward"] > 0)
        assert (row["output"] is None) == (not row["label"])
        assert len(json.loads(row["messages"])) == len(json.loads(source["context"])) + 1
        assert row["group"] == source["conversation_id"]
    assert Counter(row["form"] for row in rows) == {"kto": len(answered)}


@pytest.mark.skipif(not SHARED.exists(), reason="the published data is not here")
@pytest.mark.parametrize(
    ("name", "shape", "rows"),
    [("math_train.jsonl", "question-answer", 7473)],
)
def test_published_problems_are_told_by_their_shape(name: str, shape: str, rows: int) -> None:
    path = SHARED / name
    columns, sample = files.look(path, name, files.detect(path, name))
    assert settle(resolve(ColumnMap(), {}), columns, [each.fields for each in sample]).shape == shape
    assert sum(isinstance(each, files.Record) for each in files.read(path, name, "jsonl")) == rows


@pytest.mark.skipif(not SHARED.exists(), reason="the published data is not here")
async def test_published_texts_that_no_template_rendered_are_refused_at_the_door(house: House) -> None:
    data = await asyncio.to_thread((SHARED / "math_test_rephrased.jsonl").read_bytes)
    with pytest.raises(InvalidInput, match="a text alone does not say what is asked") as raised:
        await house.import_bytes(data, name="texts.jsonl")
    assert raised.value.reason == "NO_QUESTION"
