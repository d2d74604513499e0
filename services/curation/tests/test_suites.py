"""Training is kept clean of every evaluation suite whose texts are to be had, and the manifest names the others."""

import json
from pathlib import Path
from typing import Any

import pytest

from libs.contracts.errors import InvalidInput
from services.curation.compute.build import build
from services.curation.domain.foreign import foreign_suites
from services.curation.domain.split import TRAIN
from services.curation.domain.suite import Item
from services.curation.tests.conftest import START, House, build_rows, spec_of, tickets, write_segment

FILE, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
SUITES = [
    {"name": "law", "kind": "items", "file": FILE},
    {"name": "exam", "kind": "harness", "file": OTHER, "tasks": ["arc"]},
    "edge", "general", "safety",
]  # fmt: skip


def line(text: str, name: str = "law-1") -> str:
    return json.dumps({"item_id": name, "messages": [{"role": "user", "content": text}], "answer": "x"})


def request_of(home: Path, suites: dict[str, str], **fields: Any) -> dict[str, Any]:
    home.mkdir()
    return {
        "tenant": "default", "secret": "00" * 32, "number": 1, "watermark": 1, "fractions": None, "suite": None,
        "suite_version": 0,
        "spec": spec_of(**fields).model_dump(mode="json", by_alias=True), "suites": suites, "out": str(home / "out"),
        "segments": [(1, str(write_segment(home / "s.parquet", tickets(120))))], "result": "",
    }  # fmt: skip


def test_every_suite_is_named_and_those_without_texts_here_are_said_not_to_be_covered(tmp_path: Path) -> None:
    learnt = build_rows(tickets(120)).splits[TRAIN][0]
    file = tmp_path / "items.jsonl"
    file.write_text(line(learnt.input.upper()) + "\n\n")
    request = request_of(tmp_path / "a", {FILE: str(file)}, evaluation={"suites": SUITES})
    result = build(request)
    told = {each["suite"]: each for each in result["metadata"]["decontamination"]["suites"]}
    assert {name: each["covered"] for name, each in told.items()} == {
        "task": True, "law": True, "exam": False, "edge": True, "general": False, "safety": False,
    }  # fmt: skip
    assert (told["law"]["items"], told["law"]["digest"]) == (1, FILE)
    assert "lm-eval" in told["exam"]["why"]
    assert result["removed"]["withheld_exact"] == 1
    report = json.loads((tmp_path / "a" / "out" / "dataset" / "report.json").read_text())
    assert report["decontamination"] == result["metadata"]["decontamination"]
    for checked in report["decontamination"]["checked"].values():
        assert set(checked["recall"]["found_by_stage_alone"]) == set(checked["stages"]) == {
            "exact", "ngram", "lexical", "static",
        }  # fmt: skip
        assert checked["recall"]["planted"] > 0
    unread = build(request_of(tmp_path / "b", {}, evaluation={"suites": SUITES}))["metadata"]["decontamination"]
    assert not next(each for each in unread["suites"] if each["suite"] == "law")["covered"]


def test_another_file_of_a_suite_is_another_policy(tmp_path: Path) -> None:
    def policy(name: str, file: str) -> str:
        suites = [{"name": "law", "kind": "items", "file": file}]
        return str(build(request_of(tmp_path / name, {}, evaluation={"suites": suites}))["metadata"]["policy_digest"])

    assert policy("a", FILE) == policy("b", FILE) != policy("c", OTHER)


def test_another_method_that_learns_from_what_is_wrong_is_another_policy_and_an_erased_row_another_decision(
    tmp_path: Path,
) -> None:
    def digests(name: str, method: str, *erased: str) -> tuple[str, str]:
        request = {**request_of(tmp_path / name, {}, recipe={"method": method}), "erased_rows": list(erased)}
        metadata = build(request)["metadata"]
        return metadata["policy_digest"], metadata["decisions_digest"]

    lora, qlora, dpo, kto = (digests(name, name) for name in ("lora", "qlora", "dpo", "kto"))
    assert lora == qlora
    assert len({lora[0], dpo[0], kto[0]}) == 3
    erased = digests("erased", "lora", "row-gone")
    assert erased[0] == lora[0]
    assert erased[1] != lora[1]


def test_a_suite_that_was_not_uploaded_or_holds_no_items_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"'law\.jsonl' was not uploaded"):
        foreign_suites(spec_of(evaluation={"suites": [{"name": "law", "kind": "items", "file": "law.jsonl"}]}))
    file = tmp_path / "items.jsonl"
    file.write_text(line("a") + '\n{"item_id": "b"}\n')
    with pytest.raises(InvalidInput, match="line 2 of a suite is no item"):
        build(request_of(tmp_path / "a", {FILE: str(file)}))


def test_an_item_without_category_and_group_stands_alone() -> None:
    item = Item.of(json.loads(line("who")))
    assert (item.category, item.group) == (None, "item:law-1")


async def test_a_build_fetches_the_suites_that_its_task_evaluates_on(house: House, tmp_path: Path) -> None:
    learnt = build_rows(tickets(120)).splits[TRAIN][0]
    tree = tmp_path / "law"
    tree.mkdir()
    (tree / "items.jsonl").write_text(line(learnt.input))
    digest = await house.objects.put_tree(tree, kind="suite", metadata={"kind": "suite", "at": START.isoformat()})
    suites = [{"name": "law", "kind": "items", "file": digest}]
    built = await house.built(tickets(120), evaluation={"suites": suites})
    assert built.removed["withheld_exact"] == 1
    manifest = await house.objects.get_manifest(built.digest)
    assert manifest.metadata["decontamination"]["suites"][1]["covered"]
