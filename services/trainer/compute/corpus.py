"""Tokenised rows as columns: on disk as they are in memory, mapped and not read, an item made when it is looked at."""

import contextlib
import json
import os
import shutil
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any, overload

import numpy as np
from numpy.typing import NDArray

from services.trainer.compute.examples import Example, Item

_ABOUT = "rows.json"
_TOKENS = "tokens.i32"
_TRAINED = "trained.u8"


class _Looked(Sequence[Item]):
    """Items that are made as they are asked for."""

    @abstractmethod
    def _made(self, at: int) -> Item: ...

    @overload
    def __getitem__(self, at: int) -> Item: ...
    @overload
    def __getitem__(self, at: slice) -> list[Item]: ...
    def __getitem__(self, at: int | slice) -> Item | list[Item]:
        if isinstance(at, slice):
            return [self._made(each) for each in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        return self._made(at % len(self))


class Corpus(_Looked):
    """The items of one split, and of how many rows they came; five bytes a token, in pages that the system may drop.

    `longest` is the longest sequence of each item, `lengths` the tokens of all its sequences: [items].
    """

    def __init__(self, about: dict[str, Any], tokens: NDArray[np.int32], trained: NDArray[np.uint8]) -> None:
        self.rows = int(about["rows"])
        self._tokens = tokens
        self._trained = trained
        self._row_ids: list[str] = about["row_ids"]
        self._item_ids: list[str] = about["item_ids"]
        self._good = about["good"]
        sizes = np.asarray(about["lengths"], dtype=np.int64)
        counts = np.asarray(about["counts"], dtype=np.int64)
        self._ends = np.concatenate([[0], sizes.cumsum()])
        self._firsts = np.concatenate([[0], counts.cumsum()])
        starts = self._firsts[:-1]
        self.lengths = np.add.reduceat(sizes, starts) if len(sizes) else sizes
        self.longest = np.maximum.reduceat(sizes, starts) if len(sizes) else sizes

    def __len__(self) -> int:
        return len(self._item_ids)

    def name_of(self, at: int) -> str:
        """Id of an item."""
        return self._item_ids[at]

    def stretch(self, at: int) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Token ids and marks of an item, its sequences one after the other."""
        start, end = int(self._ends[self._firsts[at]]), int(self._ends[self._firsts[at + 1]])
        return self._tokens[start:end], self._trained[start:end]

    def _made(self, at: int) -> Item:
        sequences = tuple(self._sequence(one) for one in range(int(self._firsts[at]), int(self._firsts[at + 1])))
        return Item(self._item_ids[at], sequences, good=bool(self._good[at]))

    def _sequence(self, one: int) -> Example:
        start, end = int(self._ends[one]), int(self._ends[one + 1])
        tokens, trained = self._tokens[start:end].tolist(), self._trained[start:end].astype(bool).tolist()
        return Example(self._row_ids[one], tuple(tokens), tuple(trained))


@dataclass(frozen=True, slots=True)
class Part:
    """Some items of a corpus, in order; `prefix` goes before their names."""

    corpus: Corpus
    places: NDArray[np.int64]
    prefix: str = ""


class Chosen(_Looked):
    """Items of several corpora, one part after the other."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._bounds = np.cumsum([0, *(len(part.places) for part in parts)]).tolist()

    def __len__(self) -> int:
        return int(self._bounds[-1])

    def _made(self, at: int) -> Item:
        which = bisect_right(self._bounds, at) - 1
        part = self.parts[which]
        item = part.corpus[int(part.places[at - self._bounds[which]])]
        if not part.prefix:
            return item
        name = f"{part.prefix}{item.item_id}"
        return replace(item, item_id=name, sequences=tuple(replace(each, row_id=name) for each in item.sequences))


class Packed(_Looked):
    """Items of several examples each; `bins` says of which."""

    def __init__(self, items: Sequence[Item], bins: Sequence[Sequence[int]]) -> None:
        self._items = items
        self._bins = bins

    def __len__(self) -> int:
        return len(self._bins)

    def _made(self, at: int) -> Item:
        sequences = tuple(sequence for one in self._bins[at] for sequence in self._items[one].sequences)
        return Item("+".join(sequence.row_id for sequence in sequences), sequences, packed=True)


def gather(items: Iterable[Item], counted: Sequence[int], cache: Path | None) -> Corpus:
    """Write items down as they come, and hold them; to the directory `cache` where one is given, else to memory.

    `counted[0]` is, after the last of them, the number of rows they came of.
    """
    if cache is None:
        tokens, trained = BytesIO(), BytesIO()
        about = _write(items, counted, tokens, trained)
        return Corpus(about, np.frombuffer(tokens.getbuffer(), np.int32), np.frombuffer(trained.getbuffer(), np.uint8))
    partial = cache.with_name(f".{cache.name}-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with (partial / _TOKENS).open("wb") as one, (partial / _TRAINED).open("wb") as two:
            about = _write(items, counted, one, two)
        (partial / _ABOUT).write_text(json.dumps(about))
        # Mapped before they are moved: whatever another process of the run does with the place, these files stay.
        found = load(partial)
        shutil.rmtree(cache, ignore_errors=True)
        with contextlib.suppress(OSError):
            # Another was there first, with the same.
            partial.rename(cache)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return found


def load(cache: Path) -> Corpus:
    """What was written there. Raises OSError, ValueError or KeyError when that is not whole."""
    about = json.loads((cache / _ABOUT).read_text())
    total = sum(about["lengths"])
    tokens, trained = (_mapped(cache / name, kind, total) for name, kind in ((_TOKENS, np.int32), (_TRAINED, np.uint8)))
    return Corpus(about, tokens, trained)


def _mapped(file: Path, kind: Any, total: int) -> Any:
    if file.stat().st_size != total * np.dtype(kind).itemsize:
        raise ValueError(f"{file.name} holds {file.stat().st_size} bytes and not {total} numbers")
    return np.memmap(file, kind, "r") if total else np.empty(0, kind)


def _write(items: Iterable[Item], counted: Sequence[int], tokens: IO[bytes], trained: IO[bytes]) -> dict[str, Any]:
    about: dict[str, Any] = {"row_ids": [], "item_ids": [], "counts": [], "lengths": [], "good": []}
    for item in items:
        about["item_ids"].append(item.item_id)
        about["counts"].append(len(item.sequences))
        about["good"].append(item.good)
        for sequence in item.sequences:
            about["row_ids"].append(sequence.row_id)
            about["lengths"].append(len(sequence.tokens))
            tokens.write(np.asarray(sequence.tokens, np.int32).tobytes())
            trained.write(np.asarray(sequence.trained, np.uint8).tobytes())
    return {**about, "rows": counted[0]}
