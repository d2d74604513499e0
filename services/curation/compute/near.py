"""Near duplicates among texts: verified MinHash, a guard against critical differences, clusters of bounded diameter.

Every member of a cluster is verified similar to its centre, an earlier text, so no two members are further apart than
twice the distance allowed (the Jaccard distance is a metric): one may look like another only so far, however many
stand between them. Exact duplicates of what `words` reads are found first and cost no comparison.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from libs.contracts.errors import InvalidInput
from services.curation.compute import near_marks as columns
from services.curation.compute.near_pairs import (
    Pairs,
    WordSets,
    fresh_of,
    packed,
    proposed,
    refuse_more,
    rows_in,
    unpacked,
    verify,
    word_sets,
)
from services.curation.compute.near_sketch import ALGORITHM, Sketches, sketch
from services.curation.compute.near_substitutes import substituted
from services.curation.compute.near_words import I64, ODD, U64, Bools, mix, spans, tokenise
from services.curation.domain.clusters import GROUP_THRESHOLD, Apart, NearDuplicates, alarm_of, nearest_centres
from services.curation.domain.guard import MARKED, Kind, difference
from services.curation.domain.guard_substitutes import COMMON
from services.curation.domain.text import words

_NONE: U64 = np.empty(0, np.uint64)
TOLD = 100
"""Most pairs kept apart that are told with their words."""

BESIDE, GROUPED = 32, 128
"""Earlier texts that a text is compared with, those of its smallest buckets first, to merge it and to group it: a group
that is torn may cross splits, a duplicate that is left costs little."""

Sketcher = Callable[..., Sketches]


@dataclass(frozen=True, slots=True)
class Names:
    """The names that some texts (`rows`, ascending) know, and the order in which each text names them."""

    rows: I64
    orders: U64
    known: U64

    @classmethod
    def of(cls, texts: Sequence[str], rows: I64) -> "Names":
        """Read the texts numbered `rows`."""
        chunks = [rows[start:stop].tolist() for start, stop in spans(texts[at] for at in rows.tolist())]
        with ThreadPoolExecutor(2) as pool:
            parts = list(pool.map(lambda chunk: tokenise([texts[at] for at in chunk], cases=True), chunks))
        known = columns.names(parts)
        return cls(rows, np.concatenate([_NONE, *(columns.name_order(part, known) for part in parts)]), known)

    def differ(self, pairs: Pairs) -> Bools:
        """Which pairs name others, or the same in another order; of texts not read, none."""
        if not len(self.rows):
            return np.zeros(len(pairs.left), np.bool_)
        most = len(self.rows) - 1
        left, right = (np.minimum(np.searchsorted(self.rows, side), most) for side in (pairs.left, pairs.right))
        read = (self.rows[left] == pairs.left) & (self.rows[right] == pairs.right)
        found: Bools = read & (self.orders[left] != self.orders[right])
        return found

    def said(self, *texts: str) -> frozenset[str]:
        """The known names in the texts."""
        named = columns.holds(tokenise(texts).hashes, self.known)
        every = [word for text in texts for word in words(text)]
        return frozenset(word for word, held in zip(every, named, strict=True) if held)


def find_near(
    texts: Sequence[str],
    *,
    threshold: float = 0.8,
    guard: bool = True,
    scopes: Sequence[str] | None = None,
    answers: Sequence[str] | None = None,
    sketcher: Sketcher = sketch,
) -> NearDuplicates:
    """Merge texts at or above the threshold (Jaccard over words) into the most similar earlier text that stands.

    Texts of different `scopes` are never compared. Texts that differ critically (`guard`) or have different `answers`
    are not merged; those seen are told. The same texts give the same result, whichever `sketcher` works on them.
    """
    refuse_more(len(texts))
    sketches = sketcher(texts, threshold)
    wall, scope = walls(sketches.marks if guard else sketches.marks[:0], scopes, answers, len(texts))
    exact = _first_of(mix(sketches.same ^ wall))
    rows = np.flatnonzero(exact == np.arange(len(texts)))
    inside = proposed(_behind(sketches.keys, wall, rows), rows, most=BESIDE)
    across = proposed(_behind(sketches.keys, scope, rows), rows, first=1, last=1)
    across = across[np.not_equal(*(wall[side] for side in unpacked(across)))]
    sets = word_sets(texts, rows_in(inside, across))
    similar, apart = verify(inside, sets, threshold), verify(across, sets, threshold)
    names = Names.of(texts, rows_in(packed(similar.left, similar.right)) if guard else np.empty(0, np.int64))

    def other_words(pairs: Pairs) -> Bools:
        return substituted(pairs, texts, sets) if guard else np.zeros(len(pairs.left), np.bool_)

    changed = other_words(similar)
    # What differs in a mark is told by it, whatever else differs.
    alike = apart.where((sketches.marks[:, apart.left] == sketches.marks[:, apart.right]).all(axis=0))
    reworded = np.concatenate(
        [each.where(other).packed() for each, other in ((similar, changed), (alike, other_words(alike)))]
    )
    changed |= names.differ(similar)
    apart, similar = apart.joined(similar.where(changed)), similar.where(~changed)
    centres, similar = _clustered(
        similar, len(texts), sets, threshold, lambda pairs: ~(names.differ(pairs) | other_words(pairs))
    )
    told, kinds = told_apart(texts, apart, sketches.marks, names, reworded, guard=guard)
    return _result(len(texts), centres[exact], exact, similar, told, kinds)


def group_texts(texts: Sequence[str], *, threshold: float = GROUP_THRESHOLD, sketcher: Sketcher = sketch) -> list[int]:
    """The centre of each text over its form (numbers and addresses masked), itself for a centre; no guard.

    The centre of a text depends on earlier texts alone, so that more data never moves a group.
    """
    refuse_more(len(texts))
    sketches = sketcher(texts, threshold, masked=True)
    exact = _first_of(sketches.same)
    rows = np.flatnonzero(exact == np.arange(len(texts)))
    inside = proposed((band[rows] for band in sketches.keys), rows, most=GROUPED)
    sets = word_sets(texts, rows_in(inside), masked=True)
    similar = verify(inside, sets, threshold)
    centres, _ = _clustered(similar, len(texts), sets, threshold, lambda pairs: np.ones(len(pairs.left), np.bool_))
    found: list[int] = centres[exact].tolist()
    return found


def walls(marks: U64, scopes: Sequence[str] | None, answers: Sequence[str] | None, count: int) -> tuple[U64, U64]:
    """Numbers that are equal for texts that may be merged, and for texts that may be compared at all."""
    scope = wall = _codes(scopes, count)
    for mark in marks:
        wall = mix(wall * ODD + mark)
    if answers is not None:
        wall = mix(wall * ODD + _codes(answers, count))
    return wall, scope


def clustered(
    count: int, similar: Pairs, told: tuple[Apart, ...], kinds: dict[str, int], method: str
) -> NearDuplicates:
    """Clusters of pairs already verified, where no text is an exact copy of another."""
    centres = _centres(similar, count)
    return replace(_result(count, centres, np.arange(count), similar, told, kinds), method=method)


def _clustered(
    similar: Pairs, count: int, sets: WordSets, threshold: float, allowed: Callable[[Pairs], Bools]
) -> tuple[I64, Pairs]:
    """Centres, and all pairs verified: a text beside a member of a cluster is compared with its centre too."""
    centres = _centres(similar, count)
    absorbed = centres[similar.right]
    loose = (centres[similar.left] == similar.left) & (absorbed != similar.right) & (absorbed != similar.left)
    if loose.any():
        left, right = similar.left[loose], absorbed[loose]
        further = verify(fresh_of(packed(np.maximum(left, right), np.minimum(left, right))), sets, threshold)
        similar = similar.joined(further.where(allowed(further)))
        centres = _centres(similar, count)
    return centres, similar


def _centres(similar: Pairs, count: int) -> I64:
    centres = np.arange(count)
    order = np.lexsort((similar.right, -similar.similarity, similar.left))
    found = nearest_centres(zip(similar.left[order].tolist(), similar.right[order].tolist(), strict=True))
    if found:
        centres[np.fromiter(found.keys(), np.int64)] = np.fromiter(found.values(), np.int64)
    return centres


def _result(
    count: int, centres: I64, exact: I64, similar: Pairs, told: tuple[Apart, ...], kinds: dict[str, int]
) -> NearDuplicates:
    strength = dict(zip(packed(similar.left, similar.right).tolist(), similar.similarity.tolist(), strict=True))
    moved = np.flatnonzero(centres != np.arange(count))
    ends = packed(exact[moved], centres[moved]).tolist()
    similarity = {row: strength.get(pair, 1.0) for row, pair in zip(moved.tolist(), ends, strict=True)}
    sizes = np.bincount(centres, minlength=1)
    largest = int(sizes.max()) if count else 0
    return NearDuplicates(
        centres=centres.tolist(), similarity=similarity, apart=told, apart_pairs=kinds, largest=largest,
        alarm=alarm_of(int(sizes.argmax()), largest, count), method=ALGORITHM,
    )  # fmt: skip


def told_apart(
    texts: Sequence[str], pairs: Pairs, marks: U64, names: "Names", reworded: U64 = _NONE, *, guard: bool
) -> tuple[tuple[Apart, ...], dict[str, int]]:
    """The strongest pairs kept apart, in words, and how many there are of each kind; `reworded` are packed pairs that
    differ in a word.
    """
    called = [*MARKED, Kind.ENTITY, Kind.WORD, Kind.ANSWER]
    kinds = np.full(len(pairs.left), called.index(Kind.ANSWER))
    if guard:
        kinds[np.isin(pairs.packed(), reworded)] = called.index(Kind.WORD)
        kinds[names.differ(pairs)] = called.index(Kind.ENTITY)
        for at in reversed(range(len(MARKED))):
            kinds[marks[at][pairs.left] != marks[at][pairs.right]] = at
    counts = {str(name): int((kinds == at).sum()) for at, name in enumerate(called) if (kinds == at).any()}
    order = np.lexsort((pairs.right, pairs.left, -pairs.similarity))[:TOLD]
    told = []
    for at in order.tolist():
        left, right = int(pairs.left[at]), int(pairs.right[at])
        both = (texts[left], texts[right])
        # Whatever made the pair one that differs in a word is told, a slip among words that are common as well.
        told_words = [word for text in both for word in words(text)] if called[int(kinds[at])] is Kind.WORD else []
        found = difference(*both, names.said(*both), dict.fromkeys(told_words, COMMON)) if guard else None
        detail = f"{' '.join(found.left)} | {' '.join(found.right)}" if found else ""
        told.append(Apart(left, right, str(called[int(kinds[at])]), float(pairs.similarity[at]), detail))
    return tuple(told), counts


def _behind(keys: U64, wall: U64, rows: I64) -> Iterator[U64]:
    """Band by band, keys that are equal for texts of equal walls alone."""
    return ((band[rows] ^ wall[rows]) * ODD for band in keys)


def _first_of(values: U64) -> I64:
    """For each value the place of its first occurrence."""
    order = np.argsort(values, kind="stable")
    fresh = np.flatnonzero(np.diff(values[order], prepend=~values[order][:1]) != 0)
    first: I64 = np.empty(len(values), np.int64)
    first[order] = np.repeat(order[fresh], np.diff(fresh, append=len(values)))
    return first


def _codes(values: Sequence[str] | None, count: int) -> U64:
    """A number per distinct value, 0 for all where there are none."""
    if values is None:
        return np.zeros(count, np.uint64)
    if len(values) != count:
        raise InvalidInput(f"{len(values)} scopes or answers for {count} texts", field="scopes")
    codes: dict[str, int] = {}
    return mix(np.fromiter((codes.setdefault(each, len(codes) + 1) for each in values), np.uint64, count))
