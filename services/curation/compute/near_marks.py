"""The guard's marks and the corpus's names on columns; `domain.guard` is the reference."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from services.curation.compute.near_words import I64, U64, Bools, Tokens, hash_of, ordered
from services.curation.domain.guard import MARKED, NOUNS, kind_of
from services.curation.domain.guard_words import MARKS
from services.curation.domain.text import mark_of

_TEETH = 1 << 16
_TOOTH = np.uint64(_TEETH - 1)


def marks(tokens: Tokens) -> U64:
    """[kinds, n] hashes of each text's ordered marks of each kind of `MARKED`; 0 where there are none."""
    teeth, known, mark, kind = _lexicon()
    suspects = np.concatenate([tokens.digits, tokens.addresses, np.flatnonzero(teeth[tokens.hashes & _TOOTH])])
    suspects = _ascending(suspects)
    own: Bools = np.zeros(len(tokens.hashes), np.bool_)
    own[tokens.digits] = own[tokens.addresses] = True
    hashes = tokens.hashes[suspects]
    place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    listed = known[place] == hashes
    found = np.where(listed, mark[place], hashes)
    kinds = np.where(listed, kind[place], np.where(own[suspects], 0, len(MARKED)))
    rows: I64 = np.searchsorted(tokens.first, suspects, "right") - 1
    count = len(tokens.first) - 1
    return np.stack([ordered(found[kinds == at], rows[kinds == at], count) for at in range(len(MARKED))])


def names(parts: Sequence[Tokens]) -> U64:
    """Hashes of the words the texts know as names, ascending, as `domain.guard.known_names`; tokens with cases."""
    total = sum(len(part.hashes) for part in parts)
    capitals = [_once(part, part.within) for part in parts]
    if not total or sum(map(len, capitals)) > NOUNS * total:
        return np.empty(0, np.uint64)
    every = np.sort(np.concatenate(capitals))
    found = _ascending(every)
    counts = np.searchsorted(every, found, "right") - np.searchsorted(every, found, "left")
    lower = [_once(part, part.small[holds(part.hashes[part.small], found)]) for part in parts]
    small = np.sort(np.concatenate(lower))
    against = np.searchsorted(small, found, "right") - np.searchsorted(small, found, "left")
    return found[counts >= against]


def name_order(tokens: Tokens, known: U64) -> U64:
    """A hash of each text's known names in order of first appearance; 0 for none."""
    named = np.flatnonzero(holds(tokens.hashes, known))
    rows: I64 = np.searchsorted(tokens.first, named, "right") - 1
    hashes = tokens.hashes[named]
    order = np.lexsort((named, hashes, rows))
    again: Bools = np.zeros(len(named), np.bool_)
    again[1:] = (np.diff(rows[order]) == 0) & (np.diff(hashes[order]) == 0)
    first = np.sort(order[~again])
    return ordered(hashes[first], rows[first], len(tokens.first) - 1)


def holds(hashes: U64, among: U64) -> Bools:
    """Which hashes stand in `among` (ascending); a small table first, since most do not."""
    if not len(among):
        return np.zeros(len(hashes), np.bool_)
    teeth: Bools = np.zeros(_TEETH, np.bool_)
    teeth[among & _TOOTH] = True
    held = teeth[hashes & _TOOTH]
    at = np.flatnonzero(held)
    place = np.minimum(np.searchsorted(among, hashes[at]), len(among) - 1)
    held[at] = among[place] == hashes[at]
    return held


def _once(tokens: Tokens, places: I64) -> U64:
    """The words at the places, each once per text."""
    rows: I64 = np.searchsorted(tokens.first, places, "right") - 1
    hashes = tokens.hashes[places]
    order = np.lexsort((hashes, rows))
    rows, hashes = rows[order], hashes[order]
    fresh: Bools = np.ones(len(order), np.bool_)
    fresh[1:] = (np.diff(rows) != 0) | (hashes[1:] != hashes[:-1])
    return hashes[fresh]


def _ascending(places: I64) -> I64:
    """The distinct values, ascending."""
    places = np.sort(places)
    fresh: Bools = np.ones(len(places), np.bool_)
    np.not_equal(places[1:], places[:-1], out=fresh[1:])
    return places[fresh]


@cache
def _lexicon() -> tuple[Bools, U64, U64, NDArray[np.int64]]:
    """Critical words without a digit: a table to tell most others by, their hashes, marks and kinds."""
    listed = {hash_of(word): word for word in sorted(MARKS)}
    known = np.array(sorted(listed), np.uint64)
    teeth: Bools = np.zeros(_TEETH, np.bool_)
    teeth[known & _TOOTH] = True
    words = [listed[int(each)] for each in known]
    mark = np.array([hash_of(mark_of(word)) for word in words], np.uint64)
    return teeth, known, mark, np.array([MARKED.index(kind_of(word)) for word in words])
