"""Card and Croissant say what is in a version; conversations with tools survive whole."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from libs.contracts.errors import InvalidInput
from services.curation.compute.compare import compare
from services.curation.compute.publish import line_of
from services.curation.compute.rows import load
from services.curation.domain.card import licence_of, licences_of, size_category
from services.curation.domain.croissant import CONFORMS_TO, check
from services.curation.domain.messages import flat
from services.curation.domain.split import SPLITS
from services.curation.domain.suite import Item, item_of
from services.curation.tests.conftest import build_files, row, tickets


def test_the_card_is_what_the_hub_reads_and_croissant_names_every_byte(tmp_path: Path) -> None:
    rows = [*tickets(120, licence="cc-by-4.0"), row(300, "nothing", None)]
    result, files = build_files(tmp_path / "a", rows)
    _, head, text = files["dataset/README.md"].decode().split("---\n", 2)
    metadata = yaml.safe_load(head)
    assert metadata["license"] == "cc-by-4.0"
    assert metadata["size_categories"] == ["n<1K"]
    assert [each["split"] for each in metadata["configs"][0]["data_files"]] == list(SPLITS)
    assert "| no_answer | 1 | it teaches no answer |" in text
    document = json.loads(files["dataset/croissant.json"])
    assert document["conformsTo"] == CONFORMS_TO
    from hashlib import sha256

    for file in document["distribution"]:
        assert file["sha256"] == sha256(files[f"dataset/{file['contentUrl']}"]).hexdigest()
    assert {each["@id"] for each in document["recordSet"]} == {name for name in SPLITS if result["splits"][name]}


def test_a_line_says_under_what_it_may_be_used_and_a_row_that_says_nothing_adds_nothing(tmp_path: Path) -> None:
    rows = [*tickets(60), *tickets(60, 100, licence="mit", consent=True)]
    _, files = build_files(tmp_path / "a", rows)
    lines = [json.loads(line) for name in SPLITS for line in files[f"dataset/{name}.jsonl"].splitlines()]
    told = {line["row_id"]: {name: line[name] for name in ("licence", "consent") if name in line} for line in lines}
    assert {each for each in told if told[each]} == {each.row_id for each in rows[60:]} & told.keys()
    assert told["row-00110"] == {"licence": "mit", "consent": True}
    assert line_of(row(0, "q", confidence=0.75), "")["confidence"] == 0.75


def test_a_row_whose_wrong_answer_changed_was_rewritten(tmp_path: Path) -> None:
    def built(name: str, rejected: str) -> dict[str, str]:
        build_files(tmp_path / name, [*tickets(60), row(100, "where is it", "here", group="own", rejected=rejected)])
        out = tmp_path / name / "out"
        return {
            "ledger": str(out / "ledger.parquet"),
            **{each: str(out / "dataset" / f"{each}.jsonl") for each in SPLITS},
        }

    before, same, after = (built(name, text) for name, text in (("a", "there"), ("b", "there"), ("c", "nowhere")))
    assert compare({"before": before, "after": same})["rewritten"]["rows"] == 0
    assert compare({"before": before, "after": after})["rewritten"]["examples"] == ["row-00100"]


@pytest.mark.filterwarnings("default")
def test_croissant_is_what_its_own_library_reads_down_to_the_records(tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="the extra croissant is not installed")
    result, files = build_files(tmp_path / "a", tickets(120, licence="cc-by-4.0"))
    home = tmp_path / "a" / "out" / "dataset"
    read = mlcroissant.Dataset(str(home / "croissant.json"))
    assert not read.metadata.issues.errors
    for split in (name for name in SPLITS if result["splits"][name]):
        lines = [json.loads(line) for line in files[f"dataset/{split}.jsonl"].splitlines()]
        records = list(read.records(split))
        assert [each[f"{split}/row_id"].decode() for each in records] == [line["row_id"] for line in lines]
        told = [each[f"{split}/messages/content"].decode() for each in records[0][f"{split}/messages"]]
        assert told == [each["content"] for each in lines[0]["messages"]]


def test_a_croissant_that_refers_to_no_file_is_refused(tmp_path: Path) -> None:
    _, files = build_files(tmp_path / "a", tickets(60))
    document = json.loads(files["dataset/croissant.json"])
    document["recordSet"][0]["field"][0]["source"]["fileObject"]["@id"] = "other.jsonl"
    with pytest.raises(InvalidInput, match="refers to no file"):
        check(document)
    with pytest.raises(InvalidInput, match="lacks license"):
        check({**document, "license": ""})


def test_licences_and_sizes_are_told_as_the_hub_names_them() -> None:
    assert [licence_of(each) for each in ([], ["mit"], ["mit", "cc0"])] == ["unknown", "mit", "other"]
    # What one row says is not said of those that say nothing.
    assert licence_of(licences_of(["mit", None])) == "other"
    assert licence_of(licences_of([None, ""])) == "unknown"
    assert [size_category(each) for each in (10, 5_000, 2_000_000)] == ["n<1K", "1K<n<10K", "1M<n<10M"]


def test_a_conversation_with_tools_is_published_as_it_came(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "find", "arguments": '{"order":"7"}'}}
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "where is my order 7?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "at the harbour"},
        {"role": "assistant", "content": "It is at the harbour.", "weight": 1},
    ]
    tools = [{"type": "function", "function": {"name": "find"}}]
    home = tmp_path / "b"
    home.mkdir()
    line = {
        "row_id": "r", "kind": "example", "source": "x", "input": "at the harbour", "output": "It is at the harbour.",
        "system": None, "category": None, "group": None, "request_id": None, "signal": "good", "consent": None,
        "created_at": row(0, "").created_at, "messages": json.dumps(messages), "tools": json.dumps(tools),
    }  # fmt: skip
    pl.DataFrame([line]).with_columns(pl.col("consent").cast(pl.Boolean)).write_parquet(home / "s.parquet")
    (loaded,) = load([(1, home / "s.parquet")])
    told = line_of(loaded, "")
    assert told["messages"] == messages
    assert told["tools"] == tools


def test_a_signal_on_a_conversation_with_tools_teaches_in_their_form(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "find", "arguments": '{"order":"7"}'}}
    asked = [
        {"role": "user", "content": "where is my order 7?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "at the harbour"},
    ]
    said = '{"tool_calls":[{"name":"find","arguments":"{}"}]}'
    tools = [{"type": "function", "function": {"name": "find"}}]
    base = {
        "source": "x", "system": None, "category": None, "group": None, "consent": None,
        "created_at": row(0, "").created_at, "tools": json.dumps(tools),
    }  # fmt: skip
    lines: list[dict[str, Any]] = [
        {"row_id": "told", "kind": "correction", "input": "where is my order 7?", "output": "There.", "rejected": said,
         "label": None, "request_id": "1", "signal": "bad", "messages": json.dumps(asked), **base},
        {"row_id": "called", "kind": "rating", "input": "where is it?", "output": said, "rejected": None,
         "label": True, "request_id": "2", "signal": "good", "messages": None, **base},
        {"row_id": "blamed", "kind": "rating", "input": "and now?", "output": None, "rejected": "no idea",
         "label": False, "request_id": "3", "signal": "bad", "messages": json.dumps(asked), **base},
        {"row_id": "words", "kind": "rating", "input": "where?", "output": said, "rejected": None,
         "label": True, "request_id": "4", "signal": "good", "messages": None, **base, "tools": None},
    ]  # fmt: skip
    pl.DataFrame(lines).with_columns(pl.col("consent").cast(pl.Boolean)).write_parquet(tmp_path / "s.parquet")
    told, called, blamed, words = (line_of(each, "") for each in load([(1, tmp_path / "s.parquet")]))
    assert told["messages"] == [*asked, {"role": "assistant", "content": "There."}]
    assert told["rejected"] == [
        {"role": "assistant", "content": None,
         "tool_calls": [{"id": "call_0", "type": "function", "function": {"name": "find", "arguments": "{}"}}]}
    ]  # fmt: skip
    assert called["messages"][-1]["tool_calls"] == told["rejected"][0]["tool_calls"]
    assert called["messages"][-1]["content"] is None
    assert (blamed["messages"][:-1], blamed["rejected"]) == (asked, "no idea")
    assert words["messages"][-1] == {"role": "assistant", "content": said}, "nobody offered a tool"


def test_an_item_is_asked_with_its_tools_and_a_call_is_an_answer_by_value() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "find", "arguments": '{ "order": "7" }'}}
    whole = json.dumps({"role": "assistant", "content": None, "tool_calls": [call]})
    tools = '[{"type":"function","function":{"name":"find"}}]'
    asked = row(0, "where is order 7?", flat(json.loads(whole)), answer_as=whole, tools=tools)
    item = item_of(asked, "g", "")
    assert item.answer == '{"tool_calls":[{"name":"find","arguments":{"order":"7"}}]}'
    line = json.loads(json.dumps(item.as_json()))
    assert line["tools"] == json.loads(tools)
    assert Item.of(line) == item
    plain = item_of(row(1, "hello", "hi"), "g", "")
    assert "tools" not in plain.as_json()
    assert Item.of(plain.as_json()) == plain
    # A person who edits the answer in the queue writes text, and that is what is wanted then.
    assert item_of(replace(asked, answer="Where do you live?"), "g", "").answer == "Where do you live?"
