"""Error rates and coverage of libs/statistics, simulated: `python -m bench.statistics [--runs 2000]`.

Prints its tables and writes them to bench/results/statistics.md. Every simulation is seeded.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from libs.statistics.gates import MINIMUM_CLUSTERS, MINIMUM_ITEMS, superiority
from libs.statistics.paired import paired_difference
from libs.statistics.simulate.coverage import (
    DIFFERENCES,
    SCORES,
    SHAPES,
    corpus_coverage,
    coverage,
    difference_interval,
    score_interval,
    textbook_interval,
)
from libs.statistics.simulate.peeking import (
    Traffic,
    canary,
    canary_by_z_test,
    drops,
    means_peeked,
    votes_by_z_test,
    votes_peeked,
)
from services.evaluator.domain.segments import BUDGET

RESULTS = Path(__file__).parent / "results" / "statistics.md"
TRAFFIC = {
    "no harm": Traffic(),
    "no harm, base rate drifts": Traffic(drift=True),
    "no harm, base drifts, share ramps to 50 %": Traffic(drift=True, ramp=True),
    "2 times the failures": Traffic(risk=2.0),
    "3 times": Traffic(risk=3.0),
    "3 times, base rate drifts": Traffic(risk=3.0, drift=True),
    "5 times": Traffic(risk=5.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="simulated samples per row")
    runs = parser.parse_args().runs
    lines = [
        "# Statistics",
        "",
        f"`python -m bench.statistics --runs {runs}`. Simulations, seeded; 95 % intervals; {runs:,} samples a row.",
        "Width is beside that of an oracle who knows the estimate's true standard deviation.",
    ]
    for part in (
        canaries(runs),
        votes(runs),
        differences(runs),
        means(runs),
        corpus(runs),
        watching(runs),
        minimum(),
    ):
        for line in part:
            print(line, flush=True)
            lines.append(line)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join(lines) + "\n")


def canaries(runs: int) -> Iterator[str]:
    # A fifth of alpha is for harm to segments: see services/evaluator/domain/segments.py.
    at = {"alpha": (1.0 - BUDGET) * 0.01, "challengers": 3000, "runs": runs, "seed": 11}
    yield from ("", "## Canary at 5 % of traffic, 2 % base failure, alpha 1 %, looked at after every bad request", "")
    yield "| traffic | rolled back within 3,000 canary requests | median canary requests | z-test, as often |"
    yield "|-|-|-|-|"
    for name, traffic in TRAFFIC.items():
        ours, naive = canary(traffic, **at), canary_by_z_test(traffic, **at)
        yield f"| {name} | {ours.rate:.2%} | {_number(ours.median)} | {naive.rate:.1%} |"


def votes(runs: int) -> Iterator[str]:
    at = {"looks": 2000, "runs": runs, "seed": 12}
    yield from ("", "## Votes peeked at 2,000 times", "")
    yield "| true share of wins | alpha | verdicts 'more than half' | median votes to it | z-test, as often |"
    yield "|-|-|-|-|-|"
    for share in (0.5, 0.6, 0.7, 0.8):
        for alpha in (0.05, 0.01):
            ours, naive = votes_peeked(share, alpha=alpha, **at), votes_by_z_test(share, alpha=alpha, **at)
            yield f"| {share} | {alpha} | {ours.rate:.2%} | {_number(ours.median)} | {naive.rate:.1%} |"


def differences(runs: int) -> Iterator[str]:
    yield from (
        "",
        "## Paired differences",
        "",
        "| scores | sample | covers | width | mean and 1.96 SE covers |",
        "|-|-|-|-|-|",
    )
    for kind, draw in DIFFERENCES.items():
        for name, shape in SHAPES.items():
            ours = coverage(draw, shape, difference_interval, runs, 13)
            naive = coverage(draw, shape, textbook_interval, runs, 13)
            yield f"| {kind} | {name} | {ours.covered:.1%} | {ours.relative_width:.2f} | {naive.covered:.1%} |"


def means(runs: int) -> Iterator[str]:
    yield from (
        "",
        "## Means of one arm",
        "",
        "| scores | sample | covers | width | mean and 1.96 SE covers |",
        "|-|-|-|-|-|",
    )
    for kind, draw in SCORES.items():
        for name, shape in SHAPES.items():
            ours = coverage(draw, shape, score_interval, runs, 14)
            naive = coverage(draw, shape, textbook_interval, runs, 14)
            yield f"| {kind} | {name} | {ours.covered:.1%} | {ours.relative_width:.2f} | {naive.covered:.1%} |"


def corpus(runs: int) -> Iterator[str]:
    yield from ("", "## Corpus metric: difference of two arms' micro-averaged F1, bootstrap", "")
    yield from ("| sample | covers | width |", "|-|-|-|")
    for name in ("60 items", "200 items", "20 groups of 5", "20 uneven groups, about 5"):
        found = corpus_coverage(SHAPES[name], runs // 4, 15)
        yield f"| {name} ({found.runs:,} samples) | {found.covered:.1%} | {found.relative_width:.2f} |"


def watching(runs: int) -> Iterator[str]:
    yield from ("", "## Means and drops, looked at after every observation", "", "| what | found |", "|-|-|")
    null = means_peeked(0.3, 0.35, -0.05, alpha=0.05, looks=2000, runs=runs, seed=16)
    yield f"| mean at the margin claimed to lie above, 2,000 looks, alpha 5 % | {null.rate:.2%} |"
    for length in (500.0, 2000.0):
        few = max(50, runs // 20)
        between, _ = drops(0.9, length, 0.9, 0.9, change=10**9, until=int(8 * length), runs=few, seed=17)
        promise = f"promised {length:,.0f} units between false alarms, cut off at {8 * length:,.0f}"
        yield f"| drop detector, {promise} | {between:,.0f} |"
    for after in (0.85, 0.8, 0.6):
        _, delay = drops(0.9, 1000.0, 0.95, after, change=300, until=5000, runs=runs // 2, seed=18)
        yield f"| floor 0.9, 1,000 units promised, 0.95 drops to {after}: median delay, units | {_number(delay)} |"


def minimum() -> Iterator[str]:
    yield from ("", f"## Below {MINIMUM_ITEMS} items or {MINIMUM_CLUSTERS} equal groups nothing is decided", "")
    for wins, losses in ((45, 0), (12, 8)):
        right, wrong = [1.0] * wins + [0.0] * losses, [0.0] * wins + [1.0] * losses
        rest = [1.0] * (50 - wins - losses)
        decision = superiority(paired_difference(right + rest, wrong + rest))
        yield f"- 50 items: `{decision.verdict.value}`, {decision.reason}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if np.isfinite(value) else "none"


if __name__ == "__main__":
    main()
