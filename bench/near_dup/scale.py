"""The same near duplicates on one machine, on Daft, and on Daft over a Ray of two workers: bit-identical or an error.

`PYTHONPATH=. PEERS_PYTHON bench/near_dup/scale.py [ORIGINALS]`, where that python has daft, ray, numpy, pyarrow, ftfy,
msgspec, polars, pydantic and scipy.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from bench.near_dup.corpus import build
from services.curation.compute.near import find_near, group_texts
from services.curation.compute.near_daft import daft_sketcher
from services.curation.compute.near_sketch import sketch

RESULT = Path(__file__).parents[1] / "results" / "near_dup_scale.md"
_WORKERS = 2


def main() -> int:
    """Compare each engine in a process of its own: Daft's runner can be chosen once."""
    originals = int(sys.argv[1]) if len(sys.argv) > 1 else 8_000
    lines = [
        "# Near duplicates beyond one machine",
        "",
        f"`PYTHONPATH=. PEERS_PYTHON bench/near_dup/scale.py {originals}`: sketches, merges and groups of the",
        "same rows, compared bit for bit with those of one machine; a difference is an error.",
        "",
        "| engine | rows | merged | the same bits | seconds |",
        "|---|---|---|---|---|",
    ]
    for engine in ("daft", "ray"):
        command = [sys.executable, __file__, str(originals), engine]
        lines.append(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    RESULT.write_text(text)
    return 0


def compare(originals: int, engine: str) -> None:
    """Print a line of the table; AssertionError names what differs."""
    texts = build(originals).texts
    here, merged, groups = sketch(texts, 0.7), find_near(texts, threshold=0.7), group_texts(texts)
    address = None
    if engine == "ray":
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        ray.init(num_cpus=_WORKERS, include_dashboard=False, object_store_memory=200_000_000, log_to_driver=False,
                 runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}})  # fmt: skip
        address = "auto"
    sketcher = daft_sketcher(address=address, partitions=2 * _WORKERS)
    begun = time.perf_counter()
    there = sketcher(texts, 0.7)
    for name in ("keys", "marks", "same"):
        assert np.array_equal(getattr(here, name), getattr(there, name)), name
    assert find_near(texts, threshold=0.7, sketcher=sketcher) == merged
    assert group_texts(texts, sketcher=sketcher) == groups
    on = f"Daft over Ray, {_WORKERS} workers" if engine == "ray" else "Daft"
    seconds = time.perf_counter() - begun
    print(f"| {on} | {len(texts):,} | {len(merged.similarity):,} | yes | {seconds:.1f} |")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        compare(int(sys.argv[1]), sys.argv[2])
    else:
        sys.exit(main())
