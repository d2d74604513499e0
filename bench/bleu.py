"""How long an interval of BLEU takes: `python -m bench.bleu`, written to bench/results/bleu.md.

CPU seconds of a new process, of which other work on the machine takes little away. Texts are seeded.
"""

import platform
import time
from pathlib import Path

import numpy as np
import sacrebleu

from libs.statistics.corpus import corpus_difference
from services.evaluator.domain.metrics.core import Sample
from services.evaluator.domain.metrics.overlap import bleu

RESULTS = Path(__file__).parent / "results" / "bleu.md"
ITEMS, WORDS, DRAWS = 2000, 90, 1000


def main() -> None:
    """Measure, print and write down."""
    rng = np.random.default_rng(19)
    words = np.array([f"w{i}" for i in range(5000)])
    lines = words[rng.zipf(1.3, (ITEMS, WORDS)) % 5000]

    def garbled(share: float) -> list[str]:
        return [
            " ".join(row) for row in np.where(rng.random(lines.shape) < share, rng.choice(words, lines.shape), lines)
        ]

    references, ours, theirs = [" ".join(row) for row in lines], garbled(0.20), garbled(0.21)
    metric = bleu()
    assert metric.corpus is not None
    begun = time.process_time()
    left, right = (
        np.array([metric.measure(Sample(text, right)).statistics for text, right in zip(arm, references, strict=True)])
        for arm in (ours, theirs)
    )
    extracted = time.process_time()
    estimate = corpus_difference(left, right, metric.corpus, draws=DRAWS).interval()
    drawn = time.process_time()
    peer = sacrebleu.corpus_bleu(ours, [references]).score - sacrebleu.corpus_bleu(theirs, [references]).score
    scored = time.process_time()
    made = f"`python -m bench.bleu`, {platform.machine()}, sacrebleu {sacrebleu.__version__}"
    difference = f"{100 * estimate.value:+.3f} [{100 * estimate.low:+.3f}, {100 * estimate.high:+.3f}]"
    again = f"by scoring the texts again for every draw ({DRAWS:,} times that)"
    text = "\n".join(
        [
            "# BLEU with an interval",
            "",
            f"{made}: {ITEMS:,} items of {WORDS} words, two arms, {DRAWS:,} draws.",
            "",
            "| what | CPU seconds |",
            "|-|-|",
            f"| statistics of both arms | {extracted - begun:.2f} |",
            f"| {DRAWS:,} paired draws, interval | {drawn - extracted:.2f} |",
            f"| both (bar: 3) | **{drawn - begun:.2f}** |",
            f"| sacrebleu's two corpus scores, without any interval | {scored - drawn:.2f} |",
            f"| {again} | {(scored - drawn) * DRAWS:,.0f} |",
            "",
            f"Difference {difference}; sacrebleu's own corpus scores differ by {peer:+.3f}.",
        ]
    )
    print(text, flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main()
