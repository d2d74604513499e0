"""BLEU and chrF by sacrebleu: its statistics per item, its corpus value from their sums, in [0, 1]."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

import sacrebleu
from sacrebleu.metrics import BLEU, CHRF

from services.evaluator.domain.metrics import sums
from services.evaluator.domain.metrics.core import Measure, Metric, Sample

_ORDERS = 4
_REMEMBERED = 1 << 16


class _Chrf(CHRF):  # type: ignore[misc]
    """chrF that hands out its counts: [answer, reference, match] for each order."""

    def counts(self, text: str, reference: str) -> list[int]:
        found: list[int] = self._extract_corpus_statistics([text], [[reference]])[0]
        return found

    def value(self, counts: list[int]) -> float:
        return float(self._compute_f_score(counts))


def bleu(name: str = "bleu", tokenizer: str = "13a") -> Metric:
    """BLEU (Papineni et al. 2002) with sacrebleu's exponential smoothing; per item with effective order."""
    words = _words(tokenizer)

    def measure(sample: Sample) -> Measure:
        ours, theirs = words(sample.text), words(sample.reference)
        matches, totals = matching_ngrams(ours, theirs), [max(0, len(ours) - order) for order in range(_ORDERS)]
        found = BLEU.compute_bleu(matches, totals, len(ours), len(theirs), "exp", effective_order=True)
        statistics = (*matches, *totals, len(ours), len(theirs))
        return Measure(min(1.0, found.score / 100.0), tuple(float(each) for each in statistics))

    signature = f"bleu|tok:{tokenizer}|smooth:exp|case:mixed|sacrebleu:{sacrebleu.__version__}|scale:1|v1"
    return Metric(name, signature, measure, sums.bleu)


def chrf(name: str = "chrf", word_order: int = 0) -> Metric:
    """chrF2, with word n-grams chrF2++ (Popović 2015, 2017), effective order as in sacrebleu."""
    made = _Chrf(word_order=word_order)

    def measure(sample: Sample) -> Measure:
        counts = made.counts(sample.text, sample.reference)
        return Measure(min(1.0, made.value(counts) / 100.0), tuple(float(each) for each in counts))

    signature = f"chrf2|nc:6|nw:{word_order}|space:no|eff:yes|case:mixed|sacrebleu:{sacrebleu.__version__}|scale:1|v1"
    return Metric(name, signature, measure, sums.chrf)


def _words(tokenizer: str) -> Callable[[str], list[str]]:
    """Sacrebleu's tokens of a text.

    Its 13a splits each word for itself: its rules see no farther than the next sign, and a blank counts as any sign
    that is no digit. So words are split once and remembered; only a hyphen at the end of a line reaches farther.
    """
    whole = BLEU(tokenize=tokenizer, force=True).tokenizer
    if tokenizer != "13a":
        return lambda text: whole(text.rstrip()).split()
    one = lru_cache(_REMEMBERED)(lambda word: whole(word).split())

    def words(text: str) -> list[str]:
        joined = text.rstrip().replace("<skipped>", "").replace("-\n", "")
        return [part for word in joined.split() for part in one(word)]

    return words


def matching_ngrams(ours: Sequence[str], theirs: Sequence[str]) -> list[int]:
    """How many n-grams of order 1 to 4 of one text the other has too, each at most as often as it has it."""
    found = []
    for order in range(_ORDERS):
        left = Counter(zip(*(theirs[place:] for place in range(order + 1)), strict=False))
        hits = 0
        for gram in zip(*(ours[place:] for place in range(order + 1)), strict=False):
            if rest := left.get(gram):
                left[gram] = rest - 1
                hits += 1
        found.append(hits)
    return found
