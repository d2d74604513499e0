"""Words in the place of others, on columns; `domain.guard_substitutes` is the reference."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.curation.compute.near_marks import holds
from services.curation.compute.near_pairs import Pairs, WordSets, fresh_of, packed, rows_in
from services.curation.compute.near_words import CHUNK, HASH_BITS, I64, ODD, U64, Bools, Tokens, mix, spans, tokenise
from services.curation.domain.guard_substitutes import FEW, SHORT, SHOUTED, both_words, inflected, slipped, tells
from services.curation.domain.text import words

_BATCH = 512
_HEAD, _TAIL = np.uint64(HASH_BITS + 2), np.uint64(2)
_LOW = np.uint64((1 << HASH_BITS) - 1)
_RIGHT, _CAPITAL = np.uint64(1), np.uint64(2)


@dataclass(frozen=True, slots=True)
class _Bags:
    """The words of some texts (`rows`, ascending), each as often as it stands there, and which begin with a capital."""

    rows: I64
    words: U64
    capital: Bools
    offsets: I64
    distinct: I64

    @classmethod
    def of(cls, texts: Sequence[str], rows: I64) -> "_Bags":
        def one(span: tuple[int, int]) -> tuple[U64, Bools, I64, I64]:
            tokens = tokenise([texts[row] for row in rows[slice(*span)].tolist()], cases=True)
            counted = _counted(tokens)
            fresh = np.bincount(tokens.rows[counted == tokens.hashes], minlength=len(tokens.first) - 1)
            return counted, _capitals(tokens), np.diff(tokens.first), fresh

        with ThreadPoolExecutor(2) as pool:
            parts = list(pool.map(one, spans(texts[row] for row in rows.tolist())))
        said, capital, counts, fresh = (np.concatenate(column) for column in zip(*parts, strict=True))
        return cls(rows, said, capital, np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]), fresh)


@dataclass(frozen=True, slots=True)
class _Alone:
    """Words that stand on one side of a pair alone: of which pair, on its right or left, with a capital, which word."""

    pair: I64
    right: Bools
    capital: Bools
    word: U64

    def where(self, kept: NDArray[np.bool_]) -> "_Alone":
        return _Alone(self.pair[kept], self.right[kept], self.capital[kept], self.word[kept])


def substituted(pairs: Pairs, texts: Sequence[str], sets: WordSets) -> Bools:
    """Which pairs have words of their own on both sides that say different things.

    The words of `sets`, texts of the corpus that may be similar, tell how common words are and which is a slip.
    """
    count = len(pairs.left)
    found: Bools = np.zeros(count, np.bool_)
    if not count:
        return found
    bags = _Bags.of(texts, rows_in(packed(pairs.left, pairs.right)))
    left: I64 = np.searchsorted(bags.rows, pairs.left)
    right: I64 = np.searchsorted(bags.rows, pairs.right)
    alone = _alone(bags, left, right)
    short = np.minimum(bags.distinct[left], bags.distinct[right]) <= SHORT
    close = short | (np.bincount(alone.pair, minlength=count) <= FEW)
    # A pair with nothing to tell on one side is done; so are most.
    alone = alone.where(_both(alone.where(close[alone.pair] | alone.capital), count)[alone.pair])
    known = fresh_of(alone.word)
    said = _said(known, texts, bags, alone, left, right)
    number: I64 = np.searchsorted(known, alone.word)
    telling = np.array([tells(word) for word in said], np.bool_)[number]
    single = (np.bincount(alone.pair[telling], minlength=count) == 2) & _both(alone.where(telling), count)
    told = telling & ((short | (close & single))[alone.pair] | alone.capital)
    kept = _both(alone.where(told), count)[alone.pair]
    alone, number, told = alone.where(kept), number[kept], told[kept]
    if len(number):
        found |= _both(alone.where(told & ~_matched(alone, number, said, sets)), count)
    return found


def _counted(tokens: Tokens) -> U64:
    """The words, where one stands again in its text as another word each time."""
    packed_words = (tokens.rows.astype(np.uint64) << np.uint64(HASH_BITS)) | tokens.hashes
    order = np.argsort(packed_words, kind="stable")
    again: Bools = np.zeros(len(order), np.bool_)
    again[1:] = packed_words[order][1:] == packed_words[order][:-1]
    place = np.arange(len(order))
    times = place - np.maximum.accumulate(np.where(again, 0, place))
    counted = tokens.hashes.copy()
    twice = order[again]
    counted[twice] = mix(tokens.hashes[twice] + times[again].astype(np.uint64) * ODD) & _LOW
    return counted


def _capitals(tokens: Tokens) -> Bools:
    """Words that begin with a capital, in texts that do not shout; those with a digit may be among them."""
    capital: Bools = np.ones(len(tokens.hashes), np.bool_)
    capital[tokens.small] = capital[tokens.digits] = False
    shouts = np.bincount(tokens.rows[capital], minlength=len(tokens.first) - 1) > SHOUTED * np.diff(tokens.first)
    return capital & ~shouts[tokens.rows]


def _alone(bags: _Bags, left: I64, right: I64) -> _Alone:
    """The words that one text of each pair (places in `bags`) has and the other has not."""
    parts = []
    tagged = (bags.words << _TAIL) | (bags.capital * _CAPITAL)
    for at in range(0, len(left), _BATCH):
        sides = np.stack([left[at : at + _BATCH], right[at : at + _BATCH]], axis=1).ravel()
        counts = bags.offsets[sides + 1] - bags.offsets[sides]
        ends = np.cumsum(counts)
        places = np.arange(int(ends[-1])) + np.repeat(bags.offsets[sides] - (ends - counts), counts)
        side: U64 = np.arange(len(sides), dtype=np.uint64)
        # Pair, word, capital and side in one number, sorted: what stands once is alone.
        both = np.sort(np.repeat(((side >> _RIGHT) << _HEAD) | (side & _RIGHT), counts) | tagged[places])
        word = both >> _TAIL
        again = word[1:] == word[:-1]
        once: Bools = np.ones(len(word), np.bool_)
        once[1:] &= ~again
        once[:-1] &= ~again
        parts.append((both[once], np.full(int(once.sum()), at)))
    both, base = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _Alone(
        (both >> _HEAD).astype(np.int64) + base, (both & _RIGHT) != 0, (both & _CAPITAL) != 0, (both >> _TAIL) & _LOW
    )


def _said(known: U64, texts: Sequence[str], bags: _Bags, alone: _Alone, left: I64, right: I64) -> list[str]:
    """The words behind `known`, each read from one text it stands in."""
    first = np.unique(alone.word, return_index=True)[1]
    pair = alone.pair[first]
    rows = fresh_of(np.where(alone.right[first], right[pair], left[pair]).astype(np.uint64)).astype(np.int64)
    found = [""] * len(known)
    for at in range(0, len(rows), CHUNK):
        chunk = [texts[row] for row in bags.rows[rows[at : at + CHUNK]].tolist()]
        counted = _counted(tokenise(chunk))
        every = [word for text in chunk for word in words(text)]
        places = np.flatnonzero(holds(counted, known))
        numbers: I64 = np.searchsorted(known, counted[places])
        for place, number in zip(places.tolist(), numbers.tolist(), strict=True):
            found[number] = every[place]
    return found


def _both(told: _Alone, count: int) -> Bools:
    """Which of `count` pairs have a word on either side."""
    sides: NDArray[np.bool_] = np.zeros((2, count), np.bool_)
    sides[told.right.astype(np.int64), told.pair] = True
    both: Bools = sides[0] & sides[1]
    return both


def _matched(alone: _Alone, number: I64, said: list[str], sets: WordSets) -> Bools:
    """Which words have a variant on the other side of their pair."""
    opening = np.array([ord(word[0]) if word else 0 for word in said])
    first, second = _crossed(alone)
    near = opening[number[first]] == opening[number[second]]
    first, second = first[near], second[near]
    matched: Bools = np.zeros(len(number), np.bool_)
    distinct, which = np.unique(number[first] * len(said) + number[second], return_inverse=True)
    both = [(said[at // len(said)], said[at % len(said)]) for at in distinct.tolist()]
    slips = [slipped(*each) for each in both]
    counts = _counts([word for each, slip in zip(both, slips, strict=True) if slip for word in each], sets)
    alike = np.array(
        [
            inflected(*each) or (slip and not both_words(counts[each[0]], counts[each[1]]))
            for each, slip in zip(both, slips, strict=True)
        ],
        np.bool_,
    )[which]
    matched[first[alike]] = matched[second[alike]] = True
    return matched


def _crossed(alone: _Alone) -> tuple[I64, I64]:
    """Every word on the left of a pair with every word on its right, as places in `alone` (pairs ascending)."""
    places = np.arange(len(alone.pair))
    left, right = places[~alone.right], places[alone.right]
    begin = np.searchsorted(alone.pair[right], alone.pair[left], "left")
    count = np.searchsorted(alone.pair[right], alone.pair[left], "right") - begin
    ends = np.cumsum(count)
    inner = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - count, count)
    return np.repeat(left, count), right[np.repeat(begin, count) + inner]


def _counts(asked: Sequence[str], sets: WordSets) -> dict[str, int]:
    """In how many of the texts each word stands."""
    distinct = sorted(set(asked))
    chunks = [tokenise(distinct[at : at + CHUNK]).hashes for at in range(0, len(distinct), CHUNK)]
    hashes = np.concatenate([np.empty(0, np.uint64), *chunks])
    known = fresh_of(hashes)
    found = sets.words[holds(sets.words, known)]
    counts: I64 = np.bincount(np.searchsorted(known, found), minlength=len(known))[np.searchsorted(known, hashes)]
    return dict(zip(distinct, counts.tolist(), strict=True))
