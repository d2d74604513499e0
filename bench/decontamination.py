"""`python -m bench.decontamination --data DIR`: rewordings of a test suite among training rows, found and flagged.

DIR holds `math_train.jsonl`, `math_test.jsonl` (openai/grade-school-math, MIT) and `math_test_rephrased.jsonl`
(lm-sys/llm-decontaminator, Apache-2.0). The suite is the rephrased test; the training rows are clean ones and the
leaked originals. The lexical threshold is calibrated on one half of the clean rows against each other, and what is
flagged is counted on the other half: neither the suite, nor an original, nor a row that is counted is seen before.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from services.curation.compute.decontaminate import calibrated, decontaminate, measured_recall
from services.curation.compute.semantic import StaticEmbeddings
from services.curation.domain.leakage import Policy

RESULT = Path(__file__).parent / "results" / "decontamination.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.decontamination")
    parser.add_argument("--data", type=Path, default=os.environ.get("PAWL_BENCH_MATH"))
    given = parser.parse_args()
    if given.data is None:
        sys.stdout.write("decontamination needs --data (or PAWL_BENCH_MATH): see its docstring\n")
        return 0
    home = Path(given.data)
    clean = _questions(home / "math_train.jsonl")
    leaked = _questions(home / "math_test.jsonl")
    suite = _rephrased(home / "math_test_rephrased.jsonl")
    seen, counted = clean[0::2], clean[1::2]
    threshold = calibrated(seen, len(suite))
    recall = measured_recall(counted, suite, Policy(lexical=threshold), [StaticEmbeddings.fit([*counted, *suite])])
    rows = [*counted, *leaked]
    ways: dict[str, Callable[[], set[int]]] = {
        f"{size} words in a row": lambda size=size: _flagged(rows, suite, Policy(("exact", "ngram"), ngram=size))
        for size in (13, 8, 5)
    }
    ways["words and numbers"] = lambda: _flagged(rows, suite, Policy(lexical=threshold))
    ways["cascade"] = lambda: _flagged(rows, suite, Policy(lexical=threshold), [StaticEmbeddings.fit([*rows, *suite])])
    lines = [
        "# Decontamination against rewordings",
        "",
        f"`python -m bench.decontamination --data DIR`: {len(suite)} rephrased test questions against {len(counted)}",
        f"clean training questions and {len(leaked)} leaked originals. Lexical threshold {threshold}, calibrated on",
        f"{len(seen)} other clean questions against each other.",
        "",
        "| way | leaked originals found | clean rows flagged | CPU s |",
        "|---|---|---|---|",
    ]
    for name, way in ways.items():
        begun = time.process_time()
        hits = way()
        used = time.process_time() - begun
        found = sum(row >= len(counted) for row in hits)
        lines.append(f"| {name} | {found / len(leaked):.1%} | {(len(hits) - found) / len(counted):.2%} | {used:.1f} |")
    lines += [
        "",
        f"The cascade's own report, of rewordings planted: {recall.found} of {recall.planted} found and",
        f"{recall.flagged} of {recall.clean} clean rows flagged. A language model rewords more freely than that, so",
        "this figure is an upper bound of what is found.",
    ]
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(text)
    return 0


def _flagged(
    rows: list[str], suite: list[str], policy: Policy, embeddings: Sequence[StaticEmbeddings] = ()
) -> set[int]:
    if "lexical" not in policy.stages:
        policy = Policy(policy.stages, policy.ngram, lexical=1.0)
    return set(decontaminate(rows, suite, policy, embeddings).hits)


def _questions(path: Path) -> list[str]:
    return [str(json.loads(line)["question"]) for line in path.read_text().splitlines()]


def _rephrased(path: Path) -> list[str]:
    texts = [str(json.loads(line)["text"]) for line in path.read_text().splitlines()]
    return [text.removeprefix("Question: ").split("\nAnswer:")[0] for text in texts]


if __name__ == "__main__":
    sys.exit(main())
