"""Held-out texts said in other words: found by a cascade, withheld from other suites' and, by policy, from our own."""

from collections.abc import Sequence
from typing import Any

from services.curation.compute.decontaminate import decontaminate, measured_recall
from services.curation.compute.engines import embeddings_of
from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import Row, asked
from services.curation.domain.split import TEST
from services.curation.domain.steps import Context, Result
from services.curation.domain.suite import Item

_PLANTED = 100


class Cascade:
    """Withholds what rewords an item of another suite; of the task's own suite it does what the policy says.

    Rows of one task resemble each other: what rewords a test row may be a fair training row, which is why the own suite
    is told of and not withheld from by default, while a foreign suite is never to be met in training.
    """

    name, version = "cascade", 2

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        ledger, policy = Ledger(), context.spec.data.curation.leakage
        facts: dict[str, Any] = {}
        learnt = [row for row in rows if row.split != TEST]
        texts = [asked(row) for row in learnt]
        sides = [("others", context.suites, True), ("own", self._items, policy.rephrased == "withhold")]
        for side, items, withheld in sides:
            if not items or not texts or (side == "own" and policy.rephrased == "ignore"):
                continue
            held = [item.asked for item in items]
            embeddings = embeddings_of(context.spec, [*texts, *held])
            found = decontaminate(texts, held, embeddings=embeddings)
            facts[side] = {
                "rows": len(found.hits),
                "stages": found.stages,
                "method": found.method,
                "withheld": withheld,
            }
            if withheld:
                cheap = [each for each in embeddings if not each.dear]
                recall = measured_recall(texts, held, None, cheap, sample=_PLANTED)
                facts[side] |= {"planted_rewordings": recall.planted, "planted_found": recall.found}
            for at, hit in found.hits.items() if withheld else ():
                name = items[hit.held].item_id
                ledger.remove(learnt[at], "withheld_rephrased", f"{hit.stage} {hit.score:.2f}: {hit.evidence}; {name}")
        return Result(ledger.kept(rows), ledger, {"rephrased": facts})
