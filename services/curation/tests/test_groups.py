"""Groups keep rows together and tell nobody what a conversation or a customer is called."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from services.curation.compute import ledger_file
from services.curation.domain.split import SPLITS
from services.curation.domain.suite import item_id_of
from services.curation.tests.conftest import build_files, build_rows, tickets


def lines_of(home: Path) -> dict[str, list[dict[str, Any]]]:
    """The lines of each split of a build under `home`."""
    paths = {name: home / "out" / "dataset" / f"{name}.jsonl" for name in SPLITS}
    return {name: [json.loads(line) for line in path.read_text().splitlines()] for name, path in paths.items()}


def test_groups_are_written_under_keyed_names_and_another_key_moves_nobody(tmp_path: Path) -> None:
    rows = [replace(each, group=f"ann.lee+{at // 3}@example.org") for at, each in enumerate(tickets(150))]
    own = {each.row_id: each.group for each in rows}
    _, files = build_files(tmp_path / "a", rows)
    build_files(tmp_path / "b", rows, secret=b"another secret of the tenant")
    assert not any(b"ann.lee" in text for text in files.values())
    one, other = lines_of(tmp_path / "a"), lines_of(tmp_path / "b")
    named = {(line["group"], own[line["row_id"]]) for lines in one.values() for line in lines}
    assert len(named) == len({public for public, _ in named}) == len({group for _, group in named}) == 50
    for name in SPLITS:
        assert one[name]
        assert [line["row_id"] for line in one[name]] == [line["row_id"] for line in other[name]]
        assert not {line["group"] for line in one[name]} & {line["group"] for line in other[name]}


def test_a_version_that_wrote_groups_as_they_were_called_is_gone_on_from(tmp_path: Path) -> None:
    rows = [replace(each, group=f"conversation {at // 3}") for at, each in enumerate(tickets(150))]
    first = build_rows(rows[:100])
    raw = {each.row_id: (f"g:{each.group}", first.placed[each.row_id][1]) for each in rows[:100]}
    of_item = {item_id_of(row_id): group for row_id, (group, _) in raw.items()}
    ledger_file.write(tmp_path / "ledger", first.ledger, rows[:100], raw, first.labels)
    items = [replace(item, group=of_item[item.item_id]) for item in first.items]
    (tmp_path / "suite").write_text("".join(json.dumps(item.as_json()) + "\n" for item in items))
    given = {"ledger": str(tmp_path / "ledger"), "suite": str(tmp_path / "suite"), "suite_version": 1}
    result, files = build_files(tmp_path / "later", rows, given=given)
    assert result["metadata"]["leakage_proof"]["edges"]["group"]["crossing"] == 0
    assert not any(b"g:conversation" in text for text in files.values())
    for name, lines in lines_of(tmp_path / "later").items():
        assert {line["row_id"] for line in lines} >= {each.row_id for each in first.splits[name]}
