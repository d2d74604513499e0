"""The same near duplicates on one machine, on Daft, and on Daft over a Ray of two workers: bit-identical or an error.

`PYTHONPATH=. PEERS_PYTHON bench/near_dup/scale.py [ORIGINALS]`, where that python has daft, ray, numpy and pyarrow.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np

from bench.near_dup.corpus import build
from services.curation.compute.near import find_near, group_texts
from services.curation.compute.near_daft import daft_sketcher
from services.curation.compute.near_sketch import sketch


def main() -> int:
    originals = int(sys.argv[1]) if len(sys.argv) > 1 else 8_000
    texts = build(originals).texts
    begun = time.perf_counter()
    here, merged, groups = sketch(texts, 0.7), find_near(texts, threshold=0.7), group_texts(texts)
    print(f"one machine: {len(texts)} rows, {len(merged.similarity)} merged, {time.perf_counter() - begun:.1f} s")
    on = sys.argv[2] if len(sys.argv) > 2 else "daft"
    address = None
    if on == "ray":
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        root = str(Path.cwd())
        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=200_000_000, log_to_driver=False,
                 runtime_env={"env_vars": {"PYTHONPATH": root}})  # fmt: skip
        address = "auto"
    sketcher = daft_sketcher(address=address, partitions=4)
    begun = time.perf_counter()
    there = sketcher(texts, 0.7)
    for name in ("keys", "marks", "same"):
        assert np.array_equal(getattr(here, name), getattr(there, name)), name
    assert find_near(texts, threshold=0.7, sketcher=sketcher) == merged
    assert group_texts(texts, sketcher=sketcher) == groups
    print(f"{on}: bit-identical, {time.perf_counter() - begun:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
