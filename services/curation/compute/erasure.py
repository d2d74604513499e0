"""`python -m services.curation.compute.erasure REQUEST`: what a subject's rows touched; ledgers and suites without."""

import json
import sys
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from libs.contracts.errors import DataLoss
from libs.contracts.ids import record_of
from services.curation.compute import ledger_file
from services.curation.compute.build import run_child
from services.curation.domain.rules import ERASED
from services.curation.domain.suite import item_id_of


def main(request_file: str) -> None:
    """Find and rewrite what the request names."""
    run_child(request_file, erase)


def erase(request: dict[str, Any]) -> dict[str, Any]:
    """`rows` and `synthetic` of the user; per version what it held; rewritten files under `out`.

    `segments` are paths by digest; `versions` name number, ledger and suite files. `carrying` are rows of others that
    may say what the user's said: of all signals on a request one row stands, with what was right by any of them.
    """
    rows: set[str] = set(request["known"])
    holding: list[str] = []
    for digest, path in request["segments"].items():
        mine = _rows_of(Path(path), request["user"])
        rows |= mine
        if mine:
            holding.append(digest)
    derived: set[str] = set()
    carrying: set[str] = set()
    for version in request["versions"]:
        carrying |= _carrying(ledger_file.finals_of(Path(version["ledger"])), rows)
    for version in request["versions"]:
        lineages = ledger_file.lineages(Path(version["ledger"]))
        derived |= {row_id for row_id, made_of in lineages.items() if (rows | carrying) & set(made_of.get("seeds", []))}
    gone = frozenset(rows | derived)
    items = frozenset(map(item_id_of, gone | carrying))
    out = Path(request["out"])
    out.mkdir(parents=True, exist_ok=True)
    touched = [found for version in request["versions"] if (found := _touched(version, gone, items, out)) is not None]
    return {
        "rows": sorted(rows),
        "synthetic": sorted(derived),
        "carrying": sorted(carrying - gone),
        "segments": holding,
        "touched": touched,
    }


def _rows_of(path: Path, user: str) -> set[str]:
    try:
        table = pl.scan_parquet(path)
        named = [pl.col(name) == user for name in ("user", "subject") if name in table.collect_schema()]
        mine = table.filter(pl.any_horizontal(named)).collect()["row_id"].to_list() if named else []
        return {record_of(row_id) for row_id in mine}
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataLoss(f"segment {path.name} cannot be read: {error}", field="segment") from error


def _carrying(ends: Mapping[str, dict[str, str]], rows: Collection[str]) -> set[str]:
    """The rows that stand with what these say."""
    mine = (ends[row_id] for row_id in rows if row_id in ends)
    return {end["other"] for end in mine if end["rule"] == "superseded_signal" and end["other"]}


def _touched(version: dict[str, Any], gone: frozenset[str], items: frozenset[str], out: Path) -> dict[str, Any] | None:
    ends = ledger_file.finals_of(Path(version["ledger"]))
    held = gone | _carrying(ends, gone)
    # What a build left out because its subject was erased, it never held.
    mine = {row_id: end for row_id, end in ends.items() if row_id in held and end["rule"] != ERASED}
    lines = Path(version["suite"]).read_text(encoding="utf-8").splitlines()
    left = [line for line in lines if json.loads(line)["item_id"] not in items]
    if not mine and len(left) == len(lines):
        return None
    number = version["number"]
    ledger_file.without(Path(version["ledger"]), gone, out / f"{number}.parquet")
    found: dict[str, Any] = {
        "number": number,
        "rows": dict(sorted(Counter(_side(end) for end in mine.values()).items())),
        "suite_items": len(lines) - len(left),
        "ledger": str(out / f"{number}.parquet"),
        "suite": None,
    }
    if len(left) < len(lines):
        directory = out / f"suite-{number}"
        directory.mkdir()
        (directory / "items.jsonl").write_text("".join(f"{line}\n" for line in left), encoding="utf-8")
        found["suite"] = str(directory)
    return found


def _side(end: dict[str, str]) -> str:
    return end["split"] if end["outcome"] in ("kept", "edited") else "removed"


if __name__ == "__main__":
    main(sys.argv[1])
