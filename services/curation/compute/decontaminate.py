"""Decontamination: training rows that a held-out text would give away, by a cascade from cheap to dear.

exact text, shared n-grams, weighted lexical overlap, embeddings; each stage sees what the ones before left. Thirteen
words in a row (the custom since GPT-3) find copies alone: of rewordings they find none.
"""

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.curation.compute.calibrate_plants import plain_words, reworded
from services.curation.compute.decontaminate_lexical import LexicalIndex
from services.curation.compute.near_pairs import fresh_of
from services.curation.compute.near_words import I64, ODD, U64, mix, spans, tokenise
from services.curation.compute.semantic import Embeddings, nearest
from services.curation.domain.leakage import Hit, Policy, Recall
from services.curation.domain.text import key_of

EXACT, NGRAM, LEXICAL, STATIC, ENDPOINT = "exact", "ngram", "lexical", "static", "endpoint"
STAGES = (EXACT, NGRAM, LEXICAL, STATIC, ENDPOINT)
_BOILERPLATE = 0.01
"""An n-gram in a greater share of the rows (and in ten of them) is boilerplate and gives nothing away."""
_SAMPLE, _FEWEST, _COPY = 8000, 30, 8
_CLOSE, _SURE = 0.9, 0.97
_DEFAULT, _LEAST, _MOST, _STEP = 0.25, 0.15, 0.4, 0.001
_CANDIDATE = 0.4
"""Share of the lexical threshold from which a pair is worth a dear embedding."""


@dataclass(frozen=True, slots=True)
class Decontamination:
    """The first hit of each row that must not be learnt, and how many rows each stage was the first to catch.

    `stages` holds the stages that ran and no others; `thresholds` is the policy with what was calibrated, `reached` the
    rows that each stage finds by itself, `method` both in words.
    """

    hits: dict[int, Hit]
    stages: dict[str, int]
    reached: dict[str, frozenset[int]]
    thresholds: Policy
    method: str


def decontaminate(
    rows: Sequence[str],
    held: Sequence[str],
    policy: Policy | None = None,
    embeddings: Sequence[Embeddings] = (),
    *,
    planted: int = 0,
) -> Decontamination:
    """Rows that share a held-out text, or say it in other words.

    The static stage needs `embeddings` fitted on the corpus or elsewhere; those from an endpoint see only the pairs
    that lexical overlap makes likely, and of these no row that was caught before, since they are dear. A stage without
    its embeddings does not run. The last `planted` rows are there to be found: every stage sees all of them.
    """
    cheap, dear = (next((each for each in embeddings if each.dear is costs), None) for costs in (False, True))
    policy = policy or Policy()
    if not rows or not held:
        return Decontamination({}, {}, {}, policy, "nothing to compare")
    if policy.lexical is None and not {LEXICAL, ENDPOINT}.isdisjoint(policy.stages):
        policy = replace(policy, lexical=calibrated(rows, len(held), policy.flagged))
    if policy.semantic is None and cheap is not None and STATIC in policy.stages:
        policy = replace(policy, semantic=calibrated_cosine(rows, len(held), cheap))
    hits: dict[int, Hit] = {}
    index = None
    stages: dict[str, int] = {}
    reached: dict[str, frozenset[int]] = {}
    for stage in policy.stages:
        if stage == EXACT:
            found = _exact(rows, held)
        elif stage == NGRAM:
            found = _ngrams(rows, held, policy.ngram)
        elif stage == LEXICAL:
            index = index or LexicalIndex(rows, held)
            best = index.scored(policy.lexical or 0.0).best()
            found = {row: Hit(other, LEXICAL, score, "rare words and numbers") for row, (other, score) in best.items()}
        elif stage == STATIC and cheap is not None:
            best = nearest(cheap.embed(rows), cheap.embed(held), policy.semantic or _SURE)
            found = {row: Hit(other, STATIC, score, cheap.name) for row, (other, score) in best.items()}
        elif stage == ENDPOINT and dear is not None:
            index = index or LexicalIndex(rows, held)
            caught = {row for row in hits if row < len(rows) - planted}
            found = _asked(rows, held, index, policy, dear, caught)
        else:
            continue
        fresh = {row: hit for row, hit in found.items() if row not in hits}
        stages[stage], reached[stage] = len(fresh), frozenset(found)
        hits.update(fresh)
    return Decontamination(dict(sorted(hits.items())), stages, reached, policy, _method(policy, stages, dear))


def calibrated(rows: Sequence[str], held: int, flagged: float = 0.002, *, seed: int = 1) -> float:
    """The lexical threshold that about `flagged` of clean rows reach against a suite of `held` texts.

    A sample of the rows plays the suite against the others, so neither the suite nor a rewording of it is looked at.
    Rows that share an n-gram with one of the sample are copies and no sign of what clean rows reach. Never below
    0.15, where chance begins, nor above 0.4, where rewordings end, however narrow the corpus.
    """
    suite, rest, clean = _parted(rows, held, seed)
    if not clean:
        return _DEFAULT
    best = LexicalIndex(rest, suite).scored(_LEAST).best()
    reached = _reached([best[row][1] if row in best else 0.0 for row in clean], flagged)
    return round(min(max(reached + _STEP, _LEAST), _MOST), 3)


def calibrated_cosine(
    rows: Sequence[str], held: int, embeddings: Embeddings, flagged: float = 0.001, *, seed: int = 1
) -> float:
    """The cosine that about `flagged` of clean rows reach, found as in `calibrated`; never below 0.9."""
    suite, rest, clean = _parted(rows, held, seed)
    if not clean:
        return _SURE
    best = (embeddings.embed([rest[row] for row in clean]) @ embeddings.embed(suite).T).max(axis=1)
    return round(min(max(_reached(best.tolist(), flagged) + _STEP, _CLOSE), 1.0), 3)


def _parted(rows: Sequence[str], held: int, seed: int) -> tuple[list[str], list[str], list[int]]:
    """A sample of the rows as a suite of `held`, the others, and which of those are no copies; none of too few."""
    drawn = np.random.default_rng(seed).permutation(len(rows))[:_SAMPLE]
    cut = min(max(held, 1), len(drawn) // 3)
    if cut < _FEWEST:
        return [], [], []
    suite, rest = ([rows[at] for at in part.tolist()] for part in (drawn[:cut], drawn[cut:]))
    copies = {*_exact(rest, suite), *_ngrams(rest, suite, _COPY)}
    return suite, rest, [row for row in range(len(rest)) if row not in copies]


def _reached(scores: Sequence[float], flagged: float) -> float:
    ranked = sorted(scores)
    return ranked[min(len(ranked) - 1, math.ceil(len(ranked) * (1 - flagged)))]


def measured_recall(
    rows: Sequence[str],
    held: Sequence[str],
    policy: Policy | None = None,
    embeddings: Sequence[Embeddings] = (),
    *,
    seed: int = 1,
    sample: int = 500,
) -> Recall:
    """What the cascade finds of rewordings planted among the rows (words dropped, replaced, moved; numbers kept)."""
    drawn = np.random.default_rng(seed).permutation(len(held))[:sample].tolist()
    rng = random.Random(seed)
    vocabulary = plain_words(held)
    planted = [reworded(held[at], rng, vocabulary) for at in drawn]
    seen = decontaminate([*rows, *planted], held, policy, embeddings, planted=len(planted))
    found = sum(row >= len(rows) for row in seen.hits)
    stages = {stage: sum(row >= len(rows) for row in reached) for stage, reached in seen.reached.items()}
    return Recall(len(planted), found, len(rows), len(seen.hits) - found, stages)


def _exact(rows: Sequence[str], held: Sequence[str]) -> dict[int, Hit]:
    keys: dict[str, int] = {}
    for at, text in enumerate(held):
        keys.setdefault(key_of(text), at)
    found = ((row, keys.get(key_of(text))) for row, text in enumerate(rows))
    return {row: Hit(other, EXACT, 1.0, "the same words") for row, other in found if other is not None}


def _ngrams(rows: Sequence[str], held: Sequence[str], size: int) -> dict[int, Hit]:
    """Rows that share `size` words in a row with a held-out text."""
    grams, owners = _grams(held, size)
    if not len(grams):
        return {}
    order = np.argsort(grams, kind="stable")
    grams, owners = grams[order], owners[order]
    mine, places = _grams(rows, size)
    at = np.minimum(np.searchsorted(grams, mine), len(grams) - 1)
    shared = np.flatnonzero(grams[at] == mine)
    once = fresh_of((at[shared].astype(np.uint64) << np.uint64(32)) | places[shared].astype(np.uint64))
    gram, row = (once >> np.uint64(32)).astype(np.int64), (once & np.uint64(0xFFFFFFFF)).astype(np.int64)
    spread = np.bincount(gram, minlength=len(grams))
    telling = spread[gram] <= max(10, _BOILERPLATE * len(rows))
    found: dict[int, Hit] = {}
    for each, place in zip(gram[telling].tolist(), row[telling].tolist(), strict=True):
        found.setdefault(place, Hit(int(owners[each]), NGRAM, 1.0, f"{size} words in a row"))
    return found


def _grams(texts: Sequence[str], size: int) -> tuple[U64, I64]:
    """Hashes of all n-grams and the text each stands in."""
    grams: list[U64] = [np.empty(0, np.uint64)]
    owners: list[I64] = [np.empty(0, np.int64)]
    for start, stop in spans(texts):
        tokens = tokenise(texts[start:stop])
        count = len(tokens.hashes) - size + 1
        if count <= 0:
            continue
        gram: U64 = np.zeros(count, np.uint64)
        for at in range(size):
            gram = mix(gram * ODD + tokens.hashes[at : at + count])
        rows = tokens.rows
        whole = rows[:count] == rows[size - 1 :]
        grams.append(gram[whole])
        owners.append(rows[:count][whole] + start)
    return np.concatenate(grams), np.concatenate(owners)


def _asked(
    rows: Sequence[str],
    held: Sequence[str],
    index: LexicalIndex,
    policy: Policy,
    embeddings: Embeddings,
    caught: Collection[int],
) -> dict[int, Hit]:
    """Pairs that lexical overlap makes likely, judged by embeddings; of rows `caught` before, none."""
    likely = index.scored((policy.lexical or 0.0) * _CANDIDATE)
    pairs = [
        (row, other) for row, other in zip(likely.row.tolist(), likely.held.tolist(), strict=True) if row not in caught
    ]
    left, right = sorted({row for row, _ in pairs}), sorted({other for _, other in pairs})
    if not pairs:
        return {}
    ours, theirs = embeddings.embed([rows[at] for at in left]), embeddings.embed([held[at] for at in right])
    at_left, at_right = {row: at for at, row in enumerate(left)}, {other: at for at, other in enumerate(right)}
    found: dict[int, Hit] = {}
    for row, other in pairs:
        score = float(ours[at_left[row]] @ theirs[at_right[other]])
        if score >= policy.endpoint and (row not in found or score > found[row].score):
            found[row] = Hit(other, ENDPOINT, score, embeddings.name)
    return found


def _method(policy: Policy, ran: Collection[str], dear: Embeddings | None) -> str:
    """The stages that ran, in words."""
    said = {
        EXACT: EXACT,
        NGRAM: f"{NGRAM} {policy.ngram}",
        LEXICAL: f"{LEXICAL} {policy.lexical}",
        STATIC: f"{STATIC} {policy.semantic or _SURE}",
        ENDPOINT: f"{dear.name if dear is not None else ENDPOINT} {policy.endpoint}",
    }
    return " + ".join(said[stage] for stage in ran)
