"""What changed between two versions, and what happened to a row, as the files of both versions bear out."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from services.curation.compute import ledger_file
from services.curation.compute.build import build
from services.curation.compute.compare import compare
from services.curation.domain.rows import Row
from services.curation.domain.split import SPLITS
from services.curation.tests.conftest import row, spec_of, tickets, write_segment

SAID = "please tell the team that the parcel for the lab on the top floor is there"
FILE = "sha256:" + "a" * 64


def versions_of(home: Path, rows: list[Row], *asked: dict[str, Any]) -> list[dict[str, str]]:
    """Versions built one after another, as the builder does: each knows the suite and the ledger of the one before."""
    found: list[dict[str, str]] = []
    home.mkdir(exist_ok=True)
    segment = str(write_segment(home / "s.parquet", rows))
    suite: str | None = None
    for number, more in enumerate(asked, 1):
        out = home / str(number)
        request: dict[str, Any] = {name: more.pop(name) for name in ("undone", "suites") if name in more}
        request |= {
            "tenant": "default", "number": number, "watermark": 1, "segments": [(1, segment)], "out": str(out),
            "spec": spec_of(**more).model_dump(mode="json", by_alias=True), "fractions": None,
            "secret": "00" * 32,
            "suite": suite, "suite_version": number - 1, "result": "",
            "ledger": found[-1]["ledger"] if found else None,
        }  # fmt: skip
        assert "refused" not in build(request)
        suite = str(out / "suite" / "items.jsonl")
        files = {name: str(out / "dataset" / f"{name}.jsonl") for name in SPLITS}
        found.append({"ledger": str(out / "ledger.parquet"), **files})
    return found


def published(version: dict[str, str]) -> dict[str, str]:
    return {
        json.loads(line)["row_id"]: name
        for name in SPLITS
        for line in Path(version[name]).read_text(encoding="utf-8").splitlines()
    }


def history(version: dict[str, str], name: str) -> list[tuple[str, str]]:
    told = ledger_file.history(Path(version["ledger"]), name)
    assert [each["final"] for each in told] == [False] * (len(told) - 1) + [True]
    return [(each["rule"], each["outcome"]) for each in told]


def borne_out(before: dict[str, str], after: dict[str, str]) -> dict[str, Any]:
    """The difference, once it agrees with the files and with what both ledgers say of every row."""
    told = compare({"before": before, "after": after})
    old, new = published(before), published(after)
    assert told["rows"] == {"before": len(old), "after": len(new), "in_both": len(old.keys() & new.keys())}
    assert (told["added"]["rows"], told["removed"]["rows"]) == (len(new.keys() - old), len(old.keys() - new))
    assert told["moved_between_splits"]["rows"] == 0
    for version, rows in ((before, old), (after, new)):
        for name, end in ledger_file.finals_of(Path(version["ledger"])).items():
            assert (end["outcome"] in ("kept", "edited")) == (name in rows), end
            assert name not in rows or rows[name] == end["split"]
    assert told["removed"]["by"] == dict(Counter(history(after, name)[-1][0] for name in old.keys() - new))
    assert told["added"]["was"] == dict(Counter(history(before, name)[-1][0] for name in new.keys() - old))
    return told


@pytest.fixture
def rows() -> list[Row]:
    alike = [row(300, SAID, "a"), row(301, SAID + " thanks", "a"), row(302, SAID.upper(), "a")]
    meaning = [row(310, "refunds for broken bottles were promised", "b", group="m")]
    meaning.append(row(311, "promise a refund for the broken bottle", "b", group="m"))
    return [*tickets(120), *alike, *meaning, row(320, "the caf\u00c3\u00a9 at the harbour is closed", "c")]


def test_an_undone_rule_gives_back_what_it_took_and_history_no_longer_knows_it(tmp_path: Path, rows: list[Row]) -> None:
    undone = ["near_duplicate", "exact_duplicate", "encoding_repaired"]
    before, after = versions_of(tmp_path, rows, {}, {"undone": undone})
    told = borne_out(before, after)
    assert told["added"]["was"] == {"exact_duplicate": 1, "near_duplicate": 1}
    assert told["removed"]["rows"] == 0
    assert told["rewritten"]["examples"] == ["row-00320"]
    assert history(before, "row-00301") == [("near_duplicate", "merged")]
    assert history(after, "row-00301") == history(after, "row-00300") == [("kept", "kept")]
    again = compare({"before": after, "after": before})
    assert again["removed"]["by"] == told["added"]["was"]


def test_what_is_merged_or_withheld_by_meaning_is_told_by_its_rule(tmp_path: Path, rows: list[Row]) -> None:
    before, after = versions_of(tmp_path, rows, {}, {"data": {"duplicates": {"semantic": 0.6}}})
    told = borne_out(before, after)
    assert told["removed"]["by"]["semantic_duplicate"] >= 1
    assert set(told["removed"]["by"]) <= {"semantic_duplicate", "withheld_semantic"}
    assert history(after, "row-00311") == [("semantic_duplicate", "merged")]


def test_a_suite_that_a_task_evaluates_on_takes_its_rows_out_of_training(tmp_path: Path, rows: list[Row]) -> None:
    (before,) = versions_of(tmp_path / "alone", rows, {})
    learnt = next(json.loads(line) for line in Path(before["train"]).read_text().splitlines())
    item = {"item_id": "law", "messages": learnt["messages"][:-1], "answer": "x"}
    (tmp_path / "items.jsonl").write_text(json.dumps(item) + "\n")
    law = {
        "evaluation": {"suites": [{"name": "law", "kind": "items", "file": FILE}]},
        "suites": {FILE: str(tmp_path / "items.jsonl")},
    }
    first, second = versions_of(tmp_path, rows, {}, law)
    told = borne_out(first, second)
    assert told["removed"]["by"] == {"withheld_exact": 1}
    assert history(second, learnt["row_id"]) == [("withheld_exact", "quarantined")]
