"""Held-out texts said in other words: found by a cascade, withheld from other suites' and, by policy, from our own."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from services.curation.compute.decontaminate import Decontamination, decontaminate, measured_recall
from services.curation.compute.engines import embeddings_of
from services.curation.compute.semantic import Embeddings
from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import Row, asked
from services.curation.domain.split import TEST
from services.curation.domain.steps import Context, Result
from services.curation.domain.suite import Item

_PLANTED, _AMONG = 100, 4_000
"""Rewordings planted to measure recall, and most rows they are planted among: the whole cascade runs once more."""


class Cascade:
    """Withholds what rewords an item of another suite; of the task's own suite it does what the policy says.

    Rows of one task resemble each other: what rewords a test row may be a fair training row, which is why the own suite
    is told of and not withheld from by default, while a foreign suite is never to be met in training.
    """

    name, version = "cascade", 4

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        ledger, policy = Ledger(), context.spec.data.curation.leakage
        facts: dict[str, Any] = {}
        learnt = [row for row in rows if row.split != TEST]
        texts = [asked(row) for row in learnt]
        sides = [
            ("others", context.suites, True),
            ("own", self._items if policy.rephrased != "ignore" else (), policy.rephrased == "withhold"),
        ]
        checked = [(side, items, withheld) for side, items, withheld in sides if items and texts]
        every = [item.asked for _, items, _ in checked for item in items]
        embeddings = embeddings_of(context.spec, [*texts, *every]) if checked else []
        for side, items, withheld in checked:
            held = [item.asked for item in items]
            found = decontaminate(texts, held, embeddings=embeddings)
            facts[side] = {
                "rows": len(found.hits),
                "stages": found.stages,
                "method": found.method,
                "withheld": withheld,
                "recall": _recall(texts, held, found, embeddings),
            }
            for at, hit in found.hits.items() if withheld else ():
                name = items[hit.held].item_id
                ledger.remove(learnt[at], "withheld_rephrased", f"{hit.stage} {hit.score:.2f}: {hit.evidence}; {name}")
        return Result(ledger.kept(rows), ledger, {"rephrased": facts})


def _recall(
    texts: Sequence[str], held: Sequence[str], found: Decontamination, embeddings: Sequence[Embeddings]
) -> dict[str, Any]:
    """What the cascade, and each of its stages by itself, finds of planted rewordings of these very items."""
    drawn = np.sort(np.random.default_rng(1).permutation(len(texts))[:_AMONG]).tolist()
    recall = measured_recall([texts[at] for at in drawn], held, found.thresholds, embeddings, sample=_PLANTED)
    return {
        "planted": recall.planted,
        "found": recall.found,
        "found_by_stage_alone": dict(recall.stages),
        "among_rows": recall.clean,
    }
