"""`python -m bench near_dup`: speed, memory, recall and hard negatives side by side; `--linear` adds 250k to 1M rows.

Peers run where their interpreter is given: `--peers .../bin/python`, of an environment made by
`uv venv DIR && VIRTUAL_ENV=DIR uv pip install daft rensa numpy pyarrow`. Without it our side runs alone.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from bench.near_dup.corpus import Corpus, build
from bench.near_dup.short_rows import build as short

RESULT = Path(__file__).parents[1] / "results" / "near_dup.md"
SHORT_SIZES = (250_000, 500_000, 1_000_000)
_HERE = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.near_dup")
    parser.add_argument("--peers", default=os.environ.get("PAWL_BENCH_PEERS", ""), help="python with rensa and daft")
    parser.add_argument("--originals", type=int, default=80_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--linear", action="store_true", help="also 250k, 500k and 1M rows, long and short, ours alone")
    given = parser.parse_args()
    lines = [
        "# Near duplicates of short rows, with planted truth",
        "",
        "`python -m bench.near_dup"
        + (" --peers PYTHON" if given.peers else "")
        + (" --linear" if given.linear else "")
        + "`: one process per engine, engines in turn, best of "
        f"{given.rounds} rounds, from the Parquet file to the kept row of each row, on {os.cpu_count()} shared cores.",
        "",
        "Where other work shares the cores, compare the CPU seconds: they count the engine alone.",
        "",
        "| engine | rows/s | CPU s | peak MB | recall | precision | recall at 15 % edits | hard negatives merged |",
        "|---|---|---|---|---|---|---|---|",
    ]
    engines = ["ours 31x4", *(("rensa 16x8", "daft 16x8", "rensa 25x5", "daft 25x5") if given.peers else ())]
    with tempfile.TemporaryDirectory() as home:
        corpus = build(given.originals)
        path = _written(corpus, Path(home))
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in engines}
        for _ in range(given.rounds):
            for name in engines:
                found[name].append(_run(name, path, given.peers))
        for name, runs in found.items():
            lines.append(_line(name, min(runs, key=lambda run: run["seconds"]), corpus))
        if given.linear:
            lines += ["", "| rows | seconds | rows/s | CPU s | CPU microseconds a row | peak MB | recall |"]
            lines += ["|---|---|---|---|---|---|---|"]
            for name, make, sizes in (("long", build, (190_000, 380_000, 755_000)), ("short", short, SHORT_SIZES)):
                for size in sizes:
                    corpus = make(size)
                    lines.append(_grown(name, _run("ours 31x4", _written(corpus, Path(home)), ""), corpus))
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(text)
    return 0


def _grown(name: str, run: dict[str, Any], corpus: Corpus) -> str:
    rows, centres = len(run["centres"]), run["centres"]
    copies = [at for at, kind in enumerate(corpus.kind) if kind not in ("original", "hard negative")]
    found = sum(centres[at] == centres[corpus.origin[at]] for at in copies)
    return (
        f"| {rows:,} {name} | {run['seconds']:.1f} | {rows / run['seconds']:,.0f} | {run['processor']:.1f} | "
        f"{run['processor'] / rows * 1e6:.1f} | {run['peak_mb']:.0f} | {found / len(copies):.4f} |"
    )


def _written(corpus: Corpus, home: Path) -> Path:
    path = home / "corpus.parquet"
    pl.DataFrame({"text": corpus.texts}).write_parquet(path, row_group_size=25_000)
    return path


def _run(name: str, path: Path, peers: str) -> dict[str, Any]:
    out = path.with_suffix(".json")
    engine, bands = name.split()
    python = sys.executable if engine == "ours" else peers
    quiet = {"DAFT_ANALYTICS_ENABLED": "0", "DO_NOT_TRACK": "true", "DAFT_PROGRESS_BAR": "0"}
    environment = {**os.environ, **quiet, "PYTHONPATH": str(_HERE.parents[1])}
    command = [python, str(_HERE / "engines.py"), engine, bands.split("x")[1], str(path), str(out)]
    subprocess.run(command, check=True, env=environment)
    return dict(json.loads(out.read_text()))


def _line(name: str, run: dict[str, Any], corpus: Corpus) -> str:
    """A row's pair counts as found when it and its original stand under the same row."""
    centres = run["centres"]
    together: dict[str, list[bool]] = {}
    for at, (kind, origin) in enumerate(zip(corpus.kind, corpus.origin, strict=True)):
        if kind != "original":
            together.setdefault(kind, []).append(centres[at] == centres[origin])
    hard = together.pop("hard negative")
    found = [each for kind in together.values() for each in kind]
    merged = [at for at, centre in enumerate(centres) if centre != at and corpus.kind[at] != "hard negative"]
    right = sum(corpus.origin[at] == corpus.origin[centres[at]] for at in merged)
    edited = together["15 % edited"]
    return (
        f"| {name} | {len(centres) / run['seconds']:,.0f} | {run['processor']:.1f} | {run['peak_mb']:.0f} | "
        f"{sum(found) / len(found):.4f} | {right / len(merged):.4f} | {sum(edited) / len(edited):.3f} | "
        f"{sum(hard) / len(hard):.2%} |"
    )


if __name__ == "__main__":
    sys.exit(main())
