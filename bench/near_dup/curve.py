"""`python -m bench.near_dup.curve`: what near duplicates cost a row as the corpus grows to a million rows.

Long rows are those of `bench.near_dup`; short ones, of few templates, are each near ever more others.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.near_dup.__main__ import run_engine, written
from bench.near_dup.corpus import Corpus, build
from bench.near_dup.short_rows import build as short

RESULT = Path(__file__).parents[1] / "results" / "near_dup_curve.md"
ORIGINALS = (190_000, 380_000, 755_000)
ROWS = (250_000, 500_000, 1_000_000)


def main() -> int:
    """Print and write the table."""
    lines = [
        "# Near duplicates as the corpus grows",
        "",
        f"`python -m bench.near_dup.curve`, one process a line, {os.cpu_count()} shared cores. Compare the CPU",
        "microseconds a row: other work that shares the cores lengthens the seconds alone.",
        "",
        "| rows | seconds | CPU s | CPU microseconds a row | peak MB | copies found |",
        "|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as home:
        for name, make, sizes in (("long", build, ORIGINALS), ("short", short, ROWS)):
            for size in sizes:
                corpus = make(size)
                lines.append(line_of(name, run_engine("ours 31x4", written(corpus, Path(home)), ""), corpus))
                sys.stdout.write(f"{lines[-1]}\n")
    text = "\n".join(lines) + "\n"
    RESULT.write_text(text)
    return 0


def line_of(name: str, run: dict[str, Any], corpus: Corpus) -> str:
    """A line of the table."""
    rows, centres = len(run["centres"]), run["centres"]
    copies = [at for at, kind in enumerate(corpus.kind) if kind not in ("original", "hard negative")]
    found = sum(centres[at] == centres[corpus.origin[at]] for at in copies)
    return (
        f"| {rows:,} {name} | {run['seconds']:.1f} | {run['processor']:.1f} | {run['processor'] / rows * 1e6:.1f} | "
        f"{run['peak_mb']:.0f} | {found / len(copies):.4f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
