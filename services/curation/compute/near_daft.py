"""Sketches of texts on Daft, over Ray where the corpus outgrew one machine, bit for bit those of `near_sketch`.

The same kernel runs in every partition, so that the engine decides where the work is done and never what comes of it.
Sketches alone are made there: rows are read, sent, compared and merged in the process that asks, whose memory bounds
their number. Needs the extra `scale`. What Daft and Ray tell their makers about their use is turned off here.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from libs.contracts.errors import FailedPrecondition
from services.curation.compute.near_sketch import Sketches, banding, sketch
from services.curation.compute.near_words import CHUNK, U64
from services.curation.domain.guard import MARKED

_QUIET = {"DAFT_ANALYTICS_ENABLED": "0", "DO_NOT_TRACK": "true", "RAY_USAGE_STATS_ENABLED": "0"}
_EXTRA_COLUMNS = len(MARKED) + 1
"""Beside the band keys: the marks and the hash of the whole text."""


def daft_sketcher(*, address: str | None = None, partitions: int = 16) -> Callable[..., Sketches]:
    """A sketcher for `find_near` and `group_texts`: on Daft's own runner, or on the Ray cluster at `address`.

    `address` is a Ray address, `auto` for the cluster this machine belongs to; without one nothing leaves the process.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _QUIET.items()})
    try:
        import daft
    except ImportError as error:
        raise FailedPrecondition(f"daft is not installed ({error}): install the extra scale") from error
    if address is not None:
        daft.set_runner_ray(address=None if address == "auto" else address, noop_if_initialized=True)

    def run(texts: Sequence[str], threshold: float, *, masked: bool = False) -> Sketches:
        bands, _ = banding(threshold)

        def sketched(column: Any) -> list[bytes]:
            return rows_of(sketch(column.to_pylist(), threshold, masked=masked, threads=1))

        asked: Any = daft.func.batch(return_dtype=daft.DataType.binary(), batch_size=CHUNK)(sketched)
        table = daft.from_pydict({"at": list(range(len(texts))), "text": list(texts)})
        if address is not None:
            table = table.into_partitions(partitions)
        told = table.select("at", asked(table["text"]).alias("row")).sort("at").to_arrow()
        return columns_of(told["row"].to_pylist(), bands)

    return run


def rows_of(found: Sketches) -> list[bytes]:
    """One row of bytes per text."""
    table = np.concatenate([found.keys, found.marks, found.same[None]]).T.astype("<u8")
    return [row.tobytes() for row in np.ascontiguousarray(table)]


def columns_of(rows: Sequence[bytes], bands: int) -> Sketches:
    """What `rows_of` wrote, read back."""
    table: U64 = np.frombuffer(b"".join(rows), "<u8").reshape(-1, bands + _EXTRA_COLUMNS).T.astype(np.uint64)
    columns = np.ascontiguousarray(table)
    return Sketches(columns[:bands], columns[bands:-1], columns[-1])
