"""`python -m bench.personal_data --data pii_labelled.json`: span recall and precision per kind, and rows a second.

The file is `data/synth_dataset_v2.json` of data-privacy-stack/presidio-research (MIT). Presidio runs where `--peers`
names the python of an environment made by `uv venv DIR && VIRTUAL_ENV=DIR uv pip install presidio-analyzer`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from services.curation.compute.personal import PatternFinder

RESULT = Path(__file__).parents[1] / "results" / "personal_data.md"
_KINDS = {
    "EMAIL_ADDRESS": "email", "CREDIT_CARD": "card", "PHONE_NUMBER": "phone", "IBAN_CODE": "iban", "IP_ADDRESS": "ip",
    "US_SSN": "ssn", "DOMAIN_NAME": "url", "US_DRIVER_LICENSE": "licence", "ZIP_CODE": "postcode", "DATE_TIME": "date",
    "AGE": "age", "TITLE": "title",
}  # fmt: skip
_ADDRESS = "STREET_ADDRESS"
Spans = list[list[tuple[str, int, int, float]]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.personal_data")
    parser.add_argument("--data", type=Path, default=os.environ.get("PAWL_BENCH_PII"), help="the labelled sentences")
    parser.add_argument("--peers", default=os.environ.get("PAWL_BENCH_PEERS", ""), help="python with presidio-analyzer")
    given = parser.parse_args()
    if given.data is None:
        sys.stdout.write("personal_data needs --data (or PAWL_BENCH_PII): see its docstring\n")
        return 0
    rows = json.loads(Path(given.data).read_text())
    texts = [row["full_text"] for row in rows]
    labels = [
        {
            (_KINDS[span["entity_type"]], span["start_position"], span["end_position"])
            for span in row["spans"]
            if span["entity_type"] in _KINDS
        }
        for row in rows
    ]
    addresses = [
        [(each["start_position"], each["end_position"]) for each in row["spans"] if each["entity_type"] == _ADDRESS]
        for row in rows
    ]
    begun = time.perf_counter()
    found = PatternFinder().find(texts)
    engines: dict[str, tuple[float, Spans]] = {
        # A date of birth is labelled a date there.
        "ours": (
            time.perf_counter() - begun,
            [[(span.kind.replace("birth_", ""), span.start, span.end, 1.0) for span in spans] for spans in found],
        )
    }
    if given.peers:
        engines["presidio"] = _presidio(texts, given.peers)
    for name, (seconds, spans) in engines.items():
        # The labels have a postcode as a span of its own only where it stands outside a labelled address.
        beside = [[span for span in told if not _within(span, own)] for told, own in zip(spans, addresses, strict=True)]
        engines[name] = seconds, beside
    lines = [
        "# Personal data in labelled sentences",
        "",
        f"`python -m bench.personal_data --data {Path(given.data).name} --peers PYTHON`: {len(texts)}",
        "sentences, spans that match exactly. Presidio's patterns are scored at the score threshold that suits each",
        "kind best (of 0, 0.3 and",
        "0.5). A postcode within a labelled address, whose label is the address, is neither right nor wrong.",
        "Our patterns were written with this file at hand; presidio's come from the authors of the file.",
        "",
        "| kind | spans | " + " | ".join(f"{name} recall | {name} precision" for name in engines) + " |",
        "|---|---|" + "---|---|" * len(engines),
    ]
    for kind in dict.fromkeys(_KINDS.values()):
        total = sum(each[0] == kind for label in labels for each in label)
        cells = [f"{recall:.3f} | {precision:.3f}" for recall, precision in _scores(engines, kind, labels)]
        lines.append(f"| {kind} | {total} | " + " | ".join(cells) + " |")
    speeds = ", ".join(f"{name} {len(texts) / seconds:,.0f}" for name, (seconds, _) in engines.items())
    lines += ["", f"Rows a second: {speeds}."]
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(text)
    return 0


def _scores(engines: dict[str, tuple[float, Spans]], kind: str, labels: list[set[Any]]) -> list[tuple[float, float]]:
    return [
        max((_score(spans, kind, labels, least) for least in (0.0, 0.3, 0.5)), key=lambda each: (sum(each), each))
        for _, spans in engines.values()
    ]


def _within(span: tuple[str, int, int, float], addresses: list[tuple[int, int]]) -> bool:
    return span[0] == "postcode" and any(start <= span[1] and span[2] <= end for start, end in addresses)


def _score(spans: Spans, kind: str, labels: list[set[Any]], least: float) -> tuple[float, float]:
    counts: dict[str, int] = defaultdict(int)
    for told, label in zip(spans, labels, strict=True):
        said = {tuple(span[:3]) for span in told if span[0] == kind and span[3] >= least}
        true = {each for each in label if each[0] == kind}
        counts["right"] += len(said & true)
        counts["said"] += len(said)
        counts["true"] += len(true)
    return counts["right"] / max(1, counts["true"]), counts["right"] / max(1, counts["said"])


def _presidio(texts: list[str], python: str) -> tuple[float, Spans]:
    with tempfile.TemporaryDirectory() as home:
        source, out = Path(home) / "texts.json", Path(home) / "spans.json"
        source.write_text(json.dumps(texts))
        script = Path(__file__).with_name("presidio.py")
        subprocess.run([python, str(script), str(source), str(out)], check=True)
        told = json.loads(out.read_text())
    return told["seconds"], told["spans"]


if __name__ == "__main__":
    sys.exit(main())
