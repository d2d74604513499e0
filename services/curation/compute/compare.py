"""`python -m services.curation.compute.compare REQUEST`: what changed between two versions, and by which rule."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from libs.contracts.ids import digest_bytes
from services.curation.compute.build import run_child
from services.curation.compute.ledger_file import finals_of
from services.curation.domain.split import SPLITS

_SHOWN = 20
_TAUGHT = ("messages", "tools", "rejected", "label")
"""What of a line is learnt: a row of which one of these differs was rewritten."""


def main(request_file: str) -> None:
    """Compare what the request names."""
    run_child(request_file, compare)


def compare(request: dict[str, Any]) -> dict[str, Any]:
    """The difference from `before` to `after`: each names the ledger and the files of the splits."""
    old, new = _version(request["before"]), _version(request["after"])
    ended_old, ended_new = finals_of(Path(request["before"]["ledger"])), finals_of(Path(request["after"]["ledger"]))
    added, removed = sorted(new.keys() - old.keys()), sorted(old.keys() - new.keys())
    both = sorted(new.keys() & old.keys())
    why_added = {row: ended_old[row]["rule"] if row in ended_old else "new" for row in added}
    why_removed = {row: ended_new[row]["rule"] if row in ended_new else "gone" for row in removed}
    rewritten = [row for row in both if old[row]["content"] != new[row]["content"]]
    moved = [row for row in both if old[row]["split"] != new[row]["split"]]
    return {
        "rows": {"before": len(old), "after": len(new), "in_both": len(both)},
        "splits": {name: [_in(old, name), _in(new, name)] for name in SPLITS},
        "added": {"rows": len(added), "was": _counted(why_added), "examples": _shown(added, why_added)},
        "removed": {"rows": len(removed), "by": _counted(why_removed), "examples": _shown(removed, why_removed)},
        "rewritten": {"rows": len(rewritten), "examples": rewritten[:_SHOWN]},
        "moved_between_splits": {"rows": len(moved), "examples": moved[:_SHOWN]},
        "categories": _categories(old, new),
    }


def _version(files: dict[str, Any]) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        with Path(files[split]).open(encoding="utf-8") as lines:
            for text in lines:
                line = json.loads(text)
                rows[line["row_id"]] = {
                    "split": split,
                    "category": line["category"] or "none",
                    "content": digest_bytes(json.dumps([line.get(name) for name in _TAUGHT], sort_keys=True).encode()),
                }
    return rows


def _in(rows: dict[str, dict[str, Any]], split: str) -> int:
    return sum(row["split"] == split for row in rows.values())


def _counted(reasons: dict[str, str]) -> dict[str, int]:
    return dict(sorted(Counter(reasons.values()).items()))


def _shown(rows: list[str], why: dict[str, str]) -> list[dict[str, str]]:
    return [{"row_id": row, "rule": why[row]} for row in rows[:_SHOWN]]


def _categories(old: dict[str, dict[str, Any]], new: dict[str, dict[str, Any]]) -> dict[str, list[int]]:
    before, after = (Counter(row["category"] for row in rows.values()) for rows in (old, new))
    return {name: [before[name], after[name]] for name in sorted(before | after)}


if __name__ == "__main__":
    main(sys.argv[1])
