"""Pairs of similar texts: proposed by buckets, verified by their words, on columns.

A bucket proposes each of its texts together with the first few and the last few before it, and all buckets of a text
so many together, so that boilerplate which fills buckets costs linear time. Which pairs are proposed for a text depends
on earlier texts alone.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from libs.contracts.errors import InvalidInput
from services.curation.compute.near_words import HASH_BITS, I64, U64, Bools, distinct, spans, tokenise

FIRST, LAST = 16, 4
"""Texts of a bucket that a text is compared with: the first ones and those just before it."""
_ROW_BITS = 24
_MOST = 1 << _ROW_BITS
_ROW = np.uint64(_MOST - 1)
_BATCH = 512
_LARGE = 255


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of texts, `right < left`, and their verified similarity."""

    left: I64
    right: I64
    similarity: NDArray[np.float64]

    def where(self, kept: NDArray[np.bool_]) -> "Pairs":
        """Those of the pairs that are kept."""
        return Pairs(self.left[kept], self.right[kept], self.similarity[kept])

    def joined(self, other: "Pairs") -> "Pairs":
        """These and the others, each pair once, ascending."""
        left, right = np.concatenate([self.left, other.left]), np.concatenate([self.right, other.right])
        similarity = np.concatenate([self.similarity, other.similarity])
        order = np.argsort(packed(left, right), kind="stable")
        left, right, similarity = left[order], right[order], similarity[order]
        fresh: Bools = np.ones(len(order), np.bool_)
        fresh[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
        return Pairs(left[fresh], right[fresh], similarity[fresh])

    def packed(self) -> U64:
        """The pairs as one column."""
        return packed(self.left, self.right)

    @classmethod
    def none(cls) -> "Pairs":
        """No pair at all."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


@dataclass(frozen=True, slots=True)
class WordSets:
    """Distinct words of some texts: those of text `rows[i]` at `offsets[i]:offsets[i + 1]`."""

    rows: I64
    words: U64
    offsets: I64


def proposed(
    bands: Iterable[U64], rows: I64, *, first: int = FIRST, last: int = LAST, most: int | None = None, threads: int = 2
) -> U64:
    """Pairs that share buckets in two bands at least, packed and ascending; `rows` numbers the columns of the bands.

    Two bands and not one: a pair at the threshold shares several, one brought together by chance seldom a second. With
    `most` a text is compared with so many, those of its smallest buckets, and in each of the others with the first and
    the one before it: a bucket that many share says little, and rows of one template would fill all of them, so that
    cost would grow faster than the corpus. InvalidInput beyond 16 million texts.
    """
    if len(rows):
        refuse_more(int(rows[-1]) + 1)
    with ThreadPoolExecutor(threads) as pool:
        sorted_bands = list(pool.map(lambda band: _by_bucket(band, rows), bands))
        hot = None
        if most is not None and len(rows):
            capped = pool.map(lambda band: _ahead(band, int(rows[-1]) + 1, first + last), sorted_bands)
            hot = _hot(list(capped), most)
        found = list(pool.map(lambda band: _bucketed(band, first, last, hot), sorted_bands))
    del sorted_bands
    pairs = np.concatenate([np.empty(0, np.uint64), *found])
    del found
    pairs.sort()
    return fresh_of(pairs[1:][pairs[1:] == pairs[:-1]])


def refuse_more(count: int) -> None:
    """InvalidInput beyond 16 million texts: that many are compared nowhere, whatever engine sketches them."""
    if count > _MOST:
        raise InvalidInput(
            f"{count:,} rows, and duplicates are sought among {_MOST:,} at most: rows are read and compared in "
            "curation's own process with every data.engine (daft and ray only sketch them); name fewer data.sources, "
            "or set data.duplicates.near to false for rows that have none",
            field="data.sources",
        )


def packed(left: I64, right: I64) -> U64:
    """Pairs as one column."""
    return (left.astype(np.uint64) << np.uint64(_ROW_BITS)) | right.astype(np.uint64)


def unpacked(pairs: U64) -> tuple[I64, I64]:
    """The two texts of packed pairs."""
    return (pairs >> np.uint64(_ROW_BITS)).astype(np.int64), (pairs & _ROW).astype(np.int64)


def fresh_of(values: U64) -> U64:
    """The distinct values, ascending."""
    values = np.sort(values)
    if not len(values):
        return values
    kept: Bools = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=kept[1:])
    return values[kept]


def rows_in(*pairs: U64) -> I64:
    """The texts of packed pairs, ascending."""
    sides = [side.astype(np.uint64) for each in pairs for side in unpacked(each)]
    return fresh_of(np.concatenate(sides)).astype(np.int64)


def word_sets(texts: Sequence[str], rows: I64, *, masked: bool = False, threads: int = 2) -> WordSets:
    """The distinct words of the texts numbered `rows` (ascending)."""
    chunks = [rows[start:stop] for start, stop in spans(texts[at] for at in rows.tolist())]

    def one(chunk: I64) -> tuple[U64, I64]:
        return distinct(tokenise([texts[at] for at in chunk.tolist()], masked=masked))

    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(one, chunks))
    if not parts:
        return WordSets(rows, np.empty(0, np.uint64), np.zeros(1, np.int64))
    words, counts = zip(*parts, strict=True)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(counts))])
    return WordSets(rows, np.concatenate(words), offsets)


def verify(pairs: U64, sets: WordSets, threshold: float, *, threads: int = 2) -> Pairs:
    """The pairs whose Jaccard similarity over words is at or above the threshold, with that similarity."""
    left, right = unpacked(pairs)
    at_left: I64 = np.searchsorted(sets.rows, left)
    at_right: I64 = np.searchsorted(sets.rows, right)
    sizes = np.diff(sets.offsets)
    less = np.minimum(sizes[at_left], sizes[at_right])
    more = np.maximum(sizes[at_left], sizes[at_right])
    able = np.flatnonzero(less >= threshold * more - 1e-9)
    batches = [able[at : at + _BATCH] for at in range(0, len(able), _BATCH)]

    def one(batch: I64) -> I64:
        return _shared(sets, at_left[batch], at_right[batch])

    with ThreadPoolExecutor(threads) as pool:
        shared = np.concatenate([np.zeros(0, np.int64), *pool.map(one, batches)])
    similarity = shared / (less[able] + more[able] - shared)
    good = similarity >= threshold - 1e-12
    return Pairs(left[able][good], right[able][good], similarity[good])


def _by_bucket(keys: U64, rows: I64) -> U64:
    """Bucket and text in one number, ascending; of the buckets that may hold two."""
    shared = _not_alone(keys)
    return np.sort((keys[shared] & ~_ROW) | rows[shared].astype(np.uint64))


def _places(band: U64) -> tuple[I64, I64]:
    """Where the bucket of each text of a band begins, and how many of the bucket stand before it."""
    bucket = band & ~_ROW
    border = np.flatnonzero(np.diff(bucket, prepend=~bucket[:1]) != 0)
    start: I64 = np.repeat(border, np.diff(border, append=len(band)))
    return start, np.arange(len(band)) - start


def _ahead(band: U64, count: int, most: int) -> NDArray[np.uint8]:
    """With how many its bucket of this band brings each text together, `most` at most."""
    found: NDArray[np.uint8] = np.zeros(count, np.uint8)
    found[(band & _ROW).astype(np.int64)] = np.minimum(_places(band)[1], most)
    return found


def _hot(ahead: Sequence[NDArray[np.uint8]], most: int) -> NDArray[np.uint8]:
    """For each text the number from which a bucket brings it together with too many: the others make `most` at most."""
    table = np.sort(np.stack(ahead), axis=0)
    total: NDArray[np.uint16] = np.zeros(table.shape[1], np.uint16)
    size: NDArray[np.uint8] = np.full(table.shape[1], _LARGE, np.uint8)
    for band in table:
        total += band
        np.copyto(size, band, where=(total > most) & (size == _LARGE))
    return size


def _bucketed(band: U64, first: int, last: int, hot: NDArray[np.uint8] | None) -> U64:
    """Pairs of one band: with the first and the last before it, of a bucket too large for a text with one of each."""
    row = band & _ROW
    start, place = _places(band)
    large: Bools = np.zeros(len(band), np.bool_)
    if hot is not None:
        np.greater_equal(np.minimum(place, first + last), hot[row.astype(np.int64)], out=large)
    found = []
    for ahead in range(min(first, int(place.max(initial=0)))):
        at = np.flatnonzero((place > ahead) & ~large if ahead else place > 0)
        found.append((row[at] << np.uint64(_ROW_BITS)) | row[start[at] + ahead])
    for back in range(1, last + 1):
        at = np.flatnonzero(place - back >= np.where(large, 1 if back == 1 else len(band), first))
        found.append((row[at] << np.uint64(_ROW_BITS)) | row[at - back])
    return np.concatenate(found) if found else np.empty(0, np.uint64)


def _not_alone(keys: U64) -> I64:
    """Places of keys that may occur twice: most keys of a corpus occur once and need no sorting."""
    size = 1 << max(10, int(4 * len(keys)).bit_length())
    slots = (keys >> np.uint64(_ROW_BITS)).astype(np.int64) & (size - 1)
    return np.flatnonzero(np.bincount(slots, minlength=size)[slots] > 1)


def _shared(sets: WordSets, left: I64, right: I64) -> I64:
    """How many words each pair has in common: both sides side by side, sorted; a word seen twice is shared."""
    sides = np.stack([left, right], axis=1).ravel()
    counts = sets.offsets[sides + 1] - sets.offsets[sides]
    ends = np.cumsum(counts)
    places = np.arange(int(ends[-1])) + np.repeat(sets.offsets[sides] - (ends - counts), counts)
    pair = np.repeat(np.repeat(np.arange(len(left), dtype=np.uint64), 2), counts) << np.uint64(HASH_BITS)
    both = np.sort(pair | sets.words[places], kind="stable")
    twice = both[1:][both[1:] == both[:-1]]
    return np.bincount((twice >> np.uint64(HASH_BITS)).astype(np.int64), minlength=len(left))
