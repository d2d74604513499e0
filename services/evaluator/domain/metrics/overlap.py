"""BLEU and chrF by sacrebleu: its statistics per item, its corpus value from their sums, in [0, 1]."""

import sacrebleu
from sacrebleu.metrics import BLEU, CHRF

from services.evaluator.domain.metrics import sums
from services.evaluator.domain.metrics.core import Measure, Metric, Sample


class _Chrf(CHRF):  # type: ignore[misc]
    """chrF that hands out its counts: [answer, reference, match] for each order."""

    def counts(self, text: str, reference: str) -> list[int]:
        found: list[int] = self._extract_corpus_statistics([text], [[reference]])[0]
        return found

    def value(self, counts: list[int]) -> float:
        return float(self._compute_f_score(counts))


def bleu(name: str = "bleu", tokenizer: str = "13a") -> Metric:
    """BLEU (Papineni et al. 2002) with sacrebleu's exponential smoothing; per item with effective order."""
    single = BLEU(tokenize=tokenizer, force=True, effective_order=True)

    def measure(sample: Sample) -> Measure:
        found = single.sentence_score(sample.text, [sample.reference])
        statistics = (*found.counts, *found.totals, found.sys_len, found.ref_len)
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
