"""What an erased subject said stands with rows of others too: there it is found and goes, and their rows stay."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from libs.contracts.commands import BuildDataset
from libs.contracts.errors import FailedPrecondition
from libs.contracts.task import SplitSpec, TaskSpec
from libs.testing.wait import eventually
from services.curation.compute import ledger_file
from services.curation.compute.erasure import erase
from services.curation.domain.rows import Row
from services.curation.domain.split import SPLITS, TEST, TRAIN, salt_of, split_of
from services.curation.domain.suite import item_id_of
from services.curation.store import datasets, review
from services.curation.tests.conftest import House, build_files, row, tickets
from services.curation.workflows.erasing import hash_of

WORDS = "when will the green truck arrive at the gate"
SECRET = "what bob alone would say"


def group_of(side: str) -> str:
    """A group whose rows stand on that side."""
    salt = salt_of("default", "triage")
    return next(name for name in map(str, range(99)) if split_of(salt, f"g:{name}", SplitSpec()) == side)


def corrected_then_rated(side: str) -> list[Row]:
    """Bob corrects an answer; Amy rates it later, and her row says what both their signals amount to."""

    def said(*rows: str) -> str:
        return json.dumps({"rows": rows, "good": 1, "bad": 1, "output": SECRET, "kind": "correction"})

    about: dict[str, Any] = {"group": group_of(side), "request_id": "q9", "subject": "sam"}
    return [
        row(900, WORDS, SECRET, **about, kind="correction", user="bob", revision=1, judgement=said("row-00900")),
        row(901, WORDS, "w", **about, kind="rating", user="amy", revision=2, judgement=said("row-00900", "row-00901")),
    ]


def erased(home: Path, user: str) -> dict[str, Any]:
    """Erase a user of the one version under `home`."""
    version = {"number": 1, "ledger": str(home / "out/ledger.parquet"), "suite": str(home / "out/suite/items.jsonl")}
    segments = {"s": str(home / "s.parquet")}
    out = str(home.parent / "erased")
    return erase({"user": user, "known": [], "segments": segments, "versions": [version], "out": out})


@pytest.mark.parametrize("side", [TRAIN, TEST])
def test_a_row_that_says_what_an_erased_one_said_is_found(tmp_path: Path, side: str) -> None:
    _, files = build_files(tmp_path / "h", [*tickets(60), *corrected_then_rated(side)])
    holding = {name for name in SPLITS if SECRET.encode() in files[f"dataset/{name}.jsonl"]}
    assert holding == {side}
    found = erased(tmp_path / "h", "bob")
    assert (found["rows"], found["carrying"]) == (["row-00900"], ["row-00901"])
    (touched,) = found["touched"]
    assert touched["rows"] == {"removed": 1, side: 1}
    if side == TEST:
        assert touched["suite_items"] == 1
        assert SECRET not in (Path(touched["suite"]) / "items.jsonl").read_text()
    # Whoever only rated says nothing that stands with another.
    assert erased(tmp_path / "h", "nobody")["touched"] == []


async def test_what_an_erased_subject_said_of_an_answer_leaves_the_questions_on_it(house: House) -> None:
    ann, text = hash_of("default", "ann"), "where do we keep the winter tyres"
    about: dict[str, Any] = {"group": "c1", "request_id": "q20"}
    asked = row(950, text, "X", **about, user="amy", review="two answers", comment="amy likes it")
    blamed = row(951, text, None, **about, user=ann, signal="bad", comment="a story of her own")

    async def reasons() -> list[str]:
        queued, _ = await review.listed(house.database, "default", "triage", state="", limit=1000)
        return [each.reason for each in queued if each.row_id == asked.row_id]

    await house.built([*tickets(100), asked, blamed])
    (reason,) = await reasons()
    assert "a story of her own" in reason
    await house.erasing.erase("default", "triage", "ann", by="dpo", reason="17")
    assert await reasons() == ["two answers"]
    await house.built([], 2)
    # What others said is told again.
    assert await reasons() == ["two answers; users said: amy likes it"]


def test_what_a_teacher_made_of_an_erased_row_enters_no_version(tmp_path: Path) -> None:
    def made(row_id: str, seed: str) -> dict[str, Any]:
        lineage = {"model": "big", "method": "evolve", "prompt": "p", "seeds": [seed], "group": ""}
        words = f"a purple elephant stands on the stage of the theatre called {row_id}"
        return {
            "row_id": row_id, "input": words, "answer": "answer 1", "category": "c1", "lineage": json.dumps(lineage)
        }  # fmt: skip

    ann = hash_of("default", "ann")
    hers = row(970, "the chandelier of the ballroom fell down", user=ann)
    # Of the first seed there is no row any more: ingestion has rewritten its segment.
    given: dict[str, Any] = {"erased": [ann], "erased_rows": ["row-gone"]}
    given |= {"synthetic": [made("syn-1", "row-gone"), made("syn-2", hers.row_id), made("syn-3", "row-00001")]}
    result, files = build_files(tmp_path / "h", [*tickets(60), hers], given=given)
    assert result["removed"]["erased_subject"] == 3
    told = b"".join(files.values())
    assert not any(f"called {name}".encode() in told for name in ("syn-1", "syn-2"))


def test_no_evidence_of_others_names_what_an_erased_row_held_out(tmp_path: Path) -> None:
    text = "can you tell me where the grey umbrella went"
    hers = row(980, text, "a", group=group_of(TEST), user="bob")
    # Something of the group that trains stands before, so that the copy is no row of test.
    his = [
        row(979, "completely other words begin this talk here", "b", group=group_of(TRAIN)),
        row(981, text + " now", "b", group=group_of(TRAIN)),
    ]
    build_files(tmp_path / "h", [*tickets(60), his[0], hers, his[1]])
    (before,) = ledger_file.history(tmp_path / "h/out/ledger.parquet", his[1].row_id)
    assert any(name in before["evidence"] for name in (hers.row_id, item_id_of(hers.row_id)))
    (touched,) = erased(tmp_path / "h", "bob")["touched"]
    (after,) = ledger_file.history(Path(touched["ledger"]), his[1].row_id)
    assert (after["rule"], after["evidence"]) == (before["rule"], "of an erased row")


async def test_a_build_kept_clean_of_a_suite_that_an_erasure_rewrote_says_which_to_name(house: House) -> None:
    ann = hash_of("default", "ann")
    first = await house.built([*tickets(100), row(990, "her words", "a", group=group_of(TEST), user=ann)])
    await house.erasing.erase("default", "triage", "ann", by="dpo", reason="17")
    now = await datasets.get(house.database, "default", "triage", 1)
    assert now.suite_digest != first.suite_digest
    pinned = {"data": {"curation": {"leakage": {"suites": [first.suite_digest]}}}}
    command = BuildDataset(
        tenant="default", task="other", turn_id="t", number=1, watermark=1,
        spec=TaskSpec.model_validate({"task": "other", "base": "base", **pinned}),
    )  # fmt: skip
    with pytest.raises(FailedPrecondition, match=f"of task triage was rewritten .* name {now.suite_digest}"):
        await house.builder.build(command, [])


async def test_an_audit_quotes_no_record_of_an_erased_subject_that_names_another_since(house: House) -> None:
    await house.apply()
    ann, bob = hash_of("default", "ann"), hash_of("default", "bob")
    hers = [row(995 + at, WORDS, "a", user=ann) for at in range(2)]
    await house.segment([*tickets(60), *hers])
    await house.segment([replace(each, row_id=f"{each.row_id}~12345678", user=bob) for each in hers])

    async def known() -> bool:
        return len(await datasets.segments_to(house.database, "default", "triage", 9)) == 2

    await eventually(known, 20)
    assert WORDS in (await house.looking.audit("default", "triage")).as_json
    await house.erasing.erase("default", "triage", "ann", by="dpo", reason="17")
    # Ingestion has not rewritten the segments yet.
    assert WORDS not in (await house.looking.audit("default", "triage")).as_json
