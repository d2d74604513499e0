"""The engines: each reads the same Parquet file and writes the kept row every row stands under, as JSON.

Run as a script, by the interpreter that has the engine: `python bench/near_dup/engines.py ENGINE ROWS FILE OUT`.
ROWS is how many hashes make a band of a peer: 16 bands
of 8, or 25 of 5. All of them verify: word sets, Jaccard at or above 0.7, a row joins an earlier one that is kept.
"""

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

THRESHOLD = 0.7
_WORD = re.compile(r"\w+")


def ours(path: str, _rows: int) -> list[int]:
    import polars as pl

    from services.curation.compute.near import find_near

    texts = pl.read_parquet(path, columns=["text"])["text"].to_list()
    return find_near(texts, threshold=THRESHOLD).centres


def rensa(path: str, rows: int) -> list[int]:
    import pyarrow.parquet as pq
    from rensa import RMinHash, RMinHashLSH

    texts = pq.read_table(path, columns=["text"])["text"].to_pylist()
    sets = [set(_WORD.findall(text.lower())) for text in texts]
    sketches = RMinHash.from_token_sets([list(words) for words in sets], 128 // rows * rows, 42)
    index = RMinHashLSH(threshold=THRESHOLD, num_perm=128 // rows * rows, num_bands=128 // rows)
    index.insert_pairs(list(enumerate(sketches)))
    return _stars(
        ((at, [each for each in found if each < at]) for at, found in enumerate(index.query_all(sketches))), sets
    )


def daft(path: str, rows: int) -> list[int]:
    import daft
    import numpy as np

    table = daft.read_parquet(path).select("text")
    plain = daft.col("text").lower().regexp_replace(r"[^\w\s]", "")
    table = table.with_column("sketch", plain.minhash(num_hashes=128, ngram_size=1, seed=42)).to_arrow()
    texts = table["text"].to_pylist()
    flat = table["sketch"].combine_chunks().flatten().to_numpy()
    sketches = np.ascontiguousarray(flat.reshape(len(texts), 128))
    candidates: list[set[int]] = [set() for _ in texts]
    for band in range(0, 128 // rows * rows, rows):
        keys = sketches[:, band : band + rows].copy().view([("", sketches.dtype)] * rows).ravel()
        order = np.argsort(keys, kind="stable")
        same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
        for place in same:
            bucket = [int(order[place + 1])]
            back = place
            while back >= 0 and keys[order[back]] == keys[bucket[0]] and len(bucket) < 32:
                candidates[bucket[0]].add(int(order[back]))
                bucket.append(back)
                back -= 1
    wanted = {row for at, found in enumerate(candidates) if found for row in (at, *found)}
    sets = {row: set(_WORD.findall(texts[row].lower())) for row in wanted}
    return _stars(enumerate(candidates), sets)


def _stars(candidates: Any, sets: Any) -> list[int]:
    """The earliest kept row that each row is verified similar to."""
    centres: list[int] = []
    for at, found in candidates:
        centres.append(
            next((row for row in sorted(found) if centres[row] == row and _similar(sets[at], sets[row])), at)
        )
    return centres


def _similar(left: set[str], right: set[str]) -> bool:
    shared = len(left & right)
    return shared >= THRESHOLD * (len(left) + len(right) - shared)


def main() -> None:
    """Time one engine from the file to the answer; what it imports is not counted."""
    name, rows, path, out = sys.argv[1:]
    for module in {"ours": ("polars", "services.curation.compute.near"), "rensa": ("pyarrow.parquet", "rensa")}.get(
        name, ("daft", "numpy", "pyarrow")
    ):
        __import__(module)
    begun, used = time.perf_counter(), time.process_time()
    centres = {"ours": ours, "rensa": rensa, "daft": daft}[name](path, int(rows))
    seconds, processor = time.perf_counter() - begun, time.process_time() - used
    # Of this process alone: the peak that `getrusage` tells begins with that of the process which started it.
    peak = int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1024
    told = {"seconds": seconds, "processor": processor, "peak_mb": peak, "centres": centres}
    Path(out).write_text(json.dumps(told))


if __name__ == "__main__":
    main()
