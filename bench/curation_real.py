"""Real data through curation: `python -m bench.curation_real --data DIR`; nothing lost, nothing crossing, errors found.

DIR holds `customer_support.csv` (bitext, customer-support-llm-chatbot-training-dataset, CDLA-Sharing-1.0: an earlier
version with 4,514 rows) and `dialog_rewards_*.json` (google-research-datasets/Taskmaster, TM-3-2020/reward, CC BY 4.0).
"""

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from services.curation.compute import ledger_file
from services.curation.compute.build import build
from services.curation.compute.mislabels import suspects

RESULT = Path(__file__).parent / "results" / "curation_real.md"
START = datetime(2026, 1, 1, tzinfo=UTC)
PLANTED = 0.05
READER = """
import logging, mlcroissant
logging.disable()
found = mlcroissant.Dataset("croissant.json")
splits = [each.name for each in found.metadata.record_sets]
fields = sum(len(next(iter(found.records(name)))) for name in splits)
print(f"{len(splits)} record sets, {fields} fields, {len(found.metadata.issues.errors)} errors")
"""
SCHEMA = {
    "row_id": pl.String, "kind": pl.String, "source": pl.String, "input": pl.String, "output": pl.String,
    "signal": pl.String, "created_at": pl.Datetime("us", "UTC"), "system": pl.String, "history": pl.String,
    "category": pl.String, "group": pl.String, "request_id": pl.String, "consent": pl.Boolean, "rejected": pl.String,
    "label": pl.Boolean, "licence": pl.String,
}  # fmt: skip


def main() -> int:
    """Build a dataset version of each file; print and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="directory with the files")
    parser.add_argument(
        "--mlcroissant", help="a Python with mlcroissant, in an environment of its own, to validate with"
    )
    chosen = parser.parse_args()
    data = chosen.data
    if not (data / "customer_support.csv").exists():
        print(f"{data}: no customer_support.csv; see the first lines of this file for where the data come from")
        return 0
    support = list(support_rows(data / "customer_support.csv"))
    dialogs = [row for path in sorted(data.glob("dialog_rewards_*.json")) for row in dialog_rows(path)]
    lines = ["# Real data through curation", "", "`python -m bench.curation_real --data DIR`", ""]
    lines += told("customer_support.csv", support, {"task": "support", "base": "b"}, chosen.mlcroissant)
    recipe = {"method": "kto"}
    lines += told(
        "dialog_rewards_*.json", dialogs, {"task": "dialogs", "base": "b", "recipe": recipe}, chosen.mlcroissant
    )
    lines += planted(support)
    text = "\n".join(lines) + "\n"
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(text)
    sys.stdout.write(text)
    return 0


def support_rows(path: Path) -> Iterable[dict[str, Any]]:
    """Questions with their reply and one of 27 intents."""
    with path.open(encoding="utf-8", newline="") as file:
        for at, line in enumerate(csv.DictReader(file)):
            yield row(f"support-{at}", at, line["instruction"], line["response"], category=line["intent"])


def dialog_rows(path: Path) -> Iterable[dict[str, Any]]:
    """Assistant turns that people rewarded (1) or did not (0); a conversation is a group."""
    for at, line in enumerate(json.loads(path.read_text(encoding="utf-8"))):
        turns = [
            {"role": "user" if turn["role"] == "user" else "assistant", "content": spoken(turn)}
            for turn in json.loads(line["context"])
        ]
        last = turns.pop() if turns else {"content": ""}
        answer, good = spoken(json.loads(line["generation"])), line["reward"] == 1.0
        yield row(
            f"{path.stem}-{at}", at, last["content"], answer if good else None,
            signal="good" if good else "bad", rejected=None if good else answer, label=good,
            history=json.dumps(turns) if turns else None, group=line["conversation_id"],
        )  # fmt: skip


def spoken(turn: dict[str, Any]) -> str:
    """What a turn says, or the call it makes."""
    return (
        str(turn["text"]) if "text" in turn else json.dumps(turn.get("api", turn.get("response", {})), sort_keys=True)
    )


def row(name: str, at: int, text: str, answer: str | None, **fields: Any) -> dict[str, Any]:
    """A line of a segment."""
    given = {"kind": "example", "source": "file", "signal": "good", "created_at": START + timedelta(seconds=at)}
    return dict.fromkeys(SCHEMA) | given | {"row_id": name, "input": text, "output": answer} | fields


def told(name: str, rows: list[dict[str, Any]], spec: dict[str, Any], validator: str | None) -> list[str]:
    """Build twice, and tell what came of it."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        pl.DataFrame(rows, schema=SCHEMA).write_parquet(home / "segment.parquet")
        results, seconds = [], 0.0
        for out in ("a", "b"):
            begun = time.process_time()
            request = {
                "tenant": "default", "secret": "00" * 32, "spec": spec, "number": 1, "watermark": 1,
                "fractions": None, "suite": None,
                "suite_version": 0, "segments": [(1, str(home / "segment.parquet"))], "out": str(home / out),
            }  # fmt: skip
            results.append(build(request))
            seconds = time.process_time() - begun
        result = results[0]
        if "refused" in result:
            raise SystemExit(f"{name}: {result['refused']}")
        same = all(
            path.read_bytes() == (home / "b" / path.relative_to(home / "a")).read_bytes()
            for path in (home / "a").rglob("*")
            if path.is_file()
        )
        report = json.loads((home / "a" / "dataset" / "report.json").read_text())
        validated = croissant_of(home / "a" / "dataset", validator)
        ends = Counter(end["outcome"] for end in ledger_file.finals_of(home / "a" / "ledger.parquet").values())
    proof = report["leakage"]
    edges = ", ".join(f"{kind} {each['edges']}" for kind, each in proof["edges"].items())
    crossing = sum(each["crossing"] for each in proof["edges"].values())
    published = sum(result["splits"].values())
    outcomes = {outcome: ends[outcome] for outcome in ("kept", "edited", "merged", "quarantined")}
    staying = outcomes["kept"] + outcomes["edited"]
    return [
        f"## {name}",
        "",
        "| what | figure |",
        "|---|---|",
        f"| rows in | {len(rows)} |",
        f"| ledger | {', '.join(f'{count} {outcome}' for outcome, count in outcomes.items())} |",
        f"| rows that end once; that stay; that are published | {sum(outcomes.values())}; {staying}; {published} |",
        f"| splits | {', '.join(f'{count} {split}' for split, count in result['splits'].items())} |",
        f"| removed | {', '.join(f'{rule} {count}' for rule, count in result['removed'].items())} |",
        f"| edges between what is published; crossing splits | {edges}; {crossing} |",
        f"| withheld pairs verified | {proof['pairs_verified']} |",
        f"| groups | {report['groups']['distinct']}, the largest of {report['largest_group']['rows']} rows |",
        f"| built twice | {'the same bytes' if same else 'DIFFERENT BYTES'} |",
        f"| Croissant 1.1 read by mlcroissant | {validated} |",
        f"| CPU seconds of a build | {seconds:.1f} |",
        "",
    ]


def croissant_of(directory: Path, validator: str | None) -> str:
    """What mlcroissant says of the document, having read a record of each split through it."""
    if validator is None:
        return "not asked: `pip install mlcroissant` into another environment, then --mlcroissant PYTHON"
    found = subprocess.run([validator, "-c", READER], cwd=directory, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else f"FAILED: {found.stderr.strip().splitlines()[-1]}"


def planted(rows: list[dict[str, Any]]) -> list[str]:
    """Give one row in twenty another intent, and see which the model that did not see them suspects."""
    draw = random.Random(7)
    intents = sorted({str(each["category"]) for each in rows})
    wrong = set(draw.sample(range(len(rows)), int(PLANTED * len(rows))))
    labels = [
        draw.choice([intent for intent in intents if intent != each["category"]]) if at in wrong else each["category"]
        for at, each in enumerate(rows)
    ]
    found = {each.at for each in suspects([each["input"] for each in rows], labels, folds=5, max_share=PLANTED)}
    hits = len(found & wrong)
    return [
        "## Label errors planted in customer_support.csv",
        "",
        "| planted | suspected | of them planted | recall | precision |",
        "|---|---|---|---|---|",
        f"| {len(wrong)} | {len(found)} | {hits} | {hits / len(wrong):.3f} | {hits / max(1, len(found)):.3f} |",
    ]


if __name__ == "__main__":
    sys.exit(main())
