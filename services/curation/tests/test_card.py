"""The card and the Croissant document declare what the files hold, to every reader, and no day of building."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from services.curation.compute.build import build
from services.curation.domain.columns import columns_of, kinds_in
from services.curation.domain.rows import Row
from services.curation.domain.split import SPLITS
from services.curation.domain.synthesis import Lineage
from services.curation.tests.conftest import START, build_files, spec_of, tickets, write_segment

TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]
CALL = {"id": "1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
LINEAGE = Lineage("m", "evolve", "sha256:0", ("row-00001",), "g:own-1").as_json()


def head(files: Mapping[str, bytes]) -> dict[str, Any]:
    text = files["dataset/README.md"].decode().split("---\n", 2)[1]
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def lines(files: Mapping[str, bytes], split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in files[f"dataset/{split}.jsonl"].decode().splitlines()]


def mixed(rows: list[Row]) -> list[Row]:
    """Rows with everything a line can have: tools, typed parts, wrong answers of both forms, and one of a teacher."""
    whole = json.dumps({"role": "user", "content": [{"type": "text", "text": "look"}]})
    wrong = '{"tool_calls":[{"name":"find","arguments":"{}"}]}'
    history = json.dumps([{"role": "assistant", "content": None, "tool_calls": [CALL]}])
    found = []
    for at, each in enumerate(rows):
        changed: list[dict[str, Any]] = [
            {"tools": json.dumps(TOOLS), "history": history, "rejected": wrong, "consent": True},
            {"input_as": whole, "rejected": "no", "confidence": 0.5, "licence": "mit"},
            {},
            {"kind": "synthetic", "lineage": LINEAGE} if each.split_group == "train" else {"label": True},
        ]
        found.append(replace(each, **changed[at % 4]))
    return found


def written(home: Path, rows: list[Row]) -> dict[str, bytes]:
    """Files of a dataset of these rows, as `build` writes them."""
    from services.curation.compute.publish import write_dataset
    from services.curation.tests.conftest import build_rows, context_for

    version = build_rows(rows)
    version.splits = {name: mixed(version.splits[name]) for name in SPLITS}
    report = {
        "number": 1, "rows": {"in": 1, "kept": 1}, "splits": {name: len(version.splits[name]) for name in SPLITS},
        "edited": {}, "removed": {}, "outcomes": {}, "kinds": {}, "sources": {}, "categories": {"train": {}},
        "decontamination": {"suites": [], "checked": {}}, **version.facts,
    }  # fmt: skip
    write_dataset(home / "dataset", version, context_for(), report)
    return {str(path.relative_to(home)): path.read_bytes() for path in (home / "dataset").iterdir()}


@pytest.mark.parametrize(
    "licence", ["no", "yes", "Null", "a: b", "# none", "1e3", "0o17", "'x", "- y", "mit", "ja\u2028"]
)
def test_a_licence_is_text_whatever_yaml_makes_of_its_words(tmp_path: Path, licence: str) -> None:
    _, files = build_files(tmp_path / "a", tickets(120, licence=licence))
    assert head(files)["license"] == licence.lower()
    several = [*tickets(60, licence=licence), *tickets(60, 100, licence="zz: top")]
    _, files = build_files(tmp_path / "b", several)
    assert (head(files)["license"], head(files)["license_name"]) == ("other", ", ".join(sorted([licence, "zz: top"])))


def test_a_source_or_category_with_a_bar_stays_in_its_cell(tmp_path: Path) -> None:
    _, files = build_files(tmp_path / "a", tickets(120, source="a|b\nc", category="d | e"))
    text = files["dataset/README.md"].decode()
    assert "| a\\|b c | 120 |" in text
    assert "| d \\| e | " in text


def test_the_columns_declared_are_those_of_the_files(tmp_path: Path) -> None:
    files = written(tmp_path, tickets(240))
    declared = [each["name"] for each in head(files)["dataset_info"]["features"]]
    every = {name for split in SPLITS for line in lines(files, split) for name in line}
    assert set(declared) == every > {"tools", "rejected", "consent", "confidence", "label", "licence"}
    document = json.loads(files["dataset/croissant.json"])
    for records in document["recordSet"]:
        mine = {name for line in lines(files, records["name"]) for name in line}
        assert {field["name"] for field in records["field"]} == mine


@pytest.mark.filterwarnings("default")
def test_the_hub_and_its_library_read_the_files_as_the_card_declares_them(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    for name, files in (
        ("plain", build_files(tmp_path / "plain", tickets(120, licence="no"))[1]),
        ("mixed", written(tmp_path / "mixed", tickets(240))),
    ):
        home = tmp_path / name / ("out/dataset" if name == "plain" else "dataset")
        card = hub.DatasetCard((home / "README.md").read_text(encoding="utf-8"))
        assert hub.DatasetCardData(**card.data.to_dict()).to_dict() == head(files)
        loaded = datasets.load_dataset(str(home), cache_dir=str(tmp_path / f"cache-{name}"))
        for split in loaded:
            features = [each["name"] for each in head(files)["dataset_info"]["features"]]
            assert list(loaded[split].features) == features
            wanted = [{**dict.fromkeys(features), **line} for line in lines(files, split)]
            assert [dict(each) for each in loaded[split]] == wanted


def test_a_column_of_several_kinds_is_json_and_one_without_a_value_is_text() -> None:
    def kinds(*given: dict[str, Any]) -> dict[str, str]:
        return {each.name: str(each.kind) for each in columns_of({pair for line in given for pair in kinds_in(line)})}

    assert kinds({"rejected": "a"}, {"rejected": [{"role": "assistant"}]}) == {"rejected": "json"}
    assert kinds({"category": None}) == {"category": "text"}
    plain = {"messages": [{"role": "user", "content": "a"}]}
    assert kinds(plain) == {"messages": "messages"}
    assert kinds(plain, {"messages": [{"role": "user", "content": None}]}) == {"messages": "json"}


@pytest.mark.parametrize("stated", [False, True])
def test_the_day_of_an_import_changes_no_byte_of_the_version(tmp_path: Path, stated: bool) -> None:
    def built(name: str, day: int) -> dict[str, bytes]:
        home = tmp_path / name
        home.mkdir()
        table = pl.read_parquet(write_segment(home / "s.parquet", tickets(120)))
        came = pl.lit(START + timedelta(days=day)).cast(pl.Datetime("us", "UTC"))
        table = table.with_columns(
            came.alias("arrived_at"), pl.col("created_at") if stated else came.alias("created_at")
        )
        table.write_parquet(home / "s.parquet")
        request = {
            "tenant": "default", "secret": "00" * 32, "number": 1, "watermark": 1, "fractions": None,
            "suite": None, "suite_version": 0,
            "spec": spec_of().model_dump(mode="json", by_alias=True), "segments": [(1, str(home / "s.parquet"))],
            "out": str(home / "out"), "result": "",
        }  # fmt: skip
        build(request)
        return {str(path.relative_to(home)): path.read_bytes() for path in (home / "out").rglob("*") if path.is_file()}

    files = built("a", 40)
    assert files == built("b", 400)
    document = json.loads(files["out/dataset/croissant.json"])
    assert document.get("datePublished") == ("2026-01-01" if stated else None)


def test_the_card_says_of_personal_data_and_licences_no_more_than_is_known(tmp_path: Path) -> None:
    rows = [*tickets(60, licence="mit"), *tickets(60, 100, category="d\n\n# Approved")]
    _, files = build_files(tmp_path / "a", [replace(each, input=f"{each.input} born in 1980") for each in rows])
    text = files["dataset/README.md"].decode()
    assert (head(files)["license"], head(files)["license_name"]) == ("other", "mit, unknown")
    assert "Licences: mit, unknown." in text
    assert "\n# Approved" not in text
    assert "None was found" not in text
    assert "Kept wherever it stands: age, date, " in text
    assert "of names of persons and places nothing was looked for" in text
