"""`python -m bench near_dup`: speed, memory, recall and hard negatives side by side (`bench.near_dup.curve`: growth).

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

RESULT = Path(__file__).parents[1] / "results" / "near_dup.md"
_HERE = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.near_dup")
    parser.add_argument("--peers", default=os.environ.get("PAWL_BENCH_PEERS", ""), help="python with rensa and daft")
    parser.add_argument("--originals", type=int, default=80_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    lines = [
        "# Near duplicates of short rows, with planted truth",
        "",
        "`python -m bench.near_dup"
        + (" --peers PYTHON" if given.peers else "")
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
        path = written(corpus, Path(home))
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in engines}
        for _ in range(given.rounds):
            for name in engines:
                found[name].append(run_engine(name, path, given.peers))
        for name, runs in found.items():
            lines.append(_line(name, min(runs, key=lambda run: run["seconds"]), corpus))
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(text)
    return 0


def written(corpus: Corpus, home: Path) -> Path:
    """The corpus as a Parquet file."""
    path = home / "corpus.parquet"
    pl.DataFrame({"text": corpus.texts}).write_parquet(path, row_group_size=25_000)
    return path


def run_engine(name: str, path: Path, peers: str) -> dict[str, Any]:
    """One engine in a process of its own: seconds, peak and the kept row of each row."""
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
