"""Nothing that is held out is learnt: training and validation lose what a held-out text would give away."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from services.curation.compute.neighbours import ALGORITHM, MinHashNeighbours
from services.curation.compute.overlap import METHOD, Overlap
from services.curation.compute.semantic import Embeddings, Vectors, nearest
from services.curation.domain.leakage import HeldOut, withhold
from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import Row, asked
from services.curation.domain.split import TEST, TRAIN, VALIDATION
from services.curation.domain.steps import Context, Result
from services.curation.domain.suite import Item
from services.curation.domain.text import Reading

_HAIR = 1e-4
"""The same cosine comes out a little otherwise in another block: what the proof might count is withheld too."""


class _Texts:
    """Items of suites, then rows, read once: who they are, how alike, and what they mean."""

    def __init__(
        self,
        items: Sequence[Item],
        behind: Mapping[str, Row],
        rows: Sequence[Row],
        near_at: float,
        embeddings: Embeddings | None,
    ) -> None:
        reading = Reading()
        texts = [*(item.asked for item in items), *(asked(row) for row in rows)]
        self.names = [*(item.item_id for item in items), *(row.row_id for row in rows)]
        groups = [*(_item_groups(item, behind) for item in items), *(_groups(row) for row in rows)]
        self.told = [
            HeldOut(reading.key(text), reading.form(text), mine, name)
            for text, mine, name in zip(texts, groups, self.names, strict=True)
        ]
        self.overlaps = [Overlap(texts, near_at, masked=masked) for masked in (False, True)]
        self.vectors: Vectors = embeddings.embed(texts) if embeddings is not None else np.zeros((0, 1), np.float32)
        self._places = {row.row_id: at for at, row in enumerate(rows, len(items))}

    def places(self, rows: Iterable[Row]) -> list[int]:
        """The numbers of rows."""
        return [self._places[row.row_id] for row in rows]


def _groups(row: Row) -> tuple[str, ...]:
    return (row.split_group,) if row.conversation is None else (row.split_group, row.conversation)


def _item_groups(item: Item, behind: Mapping[str, Row]) -> tuple[str, ...]:
    row = behind.get(item.item_id)
    return (item.group,) if row is None or row.conversation is None else (item.group, row.conversation)


class Seal:
    """Withholds by group, customer, text, likeness and meaning against suites, test rows, and (training) validation.

    `behind` as `domain.proof.nodes_of`.
    """

    name, version = "seal", 5

    def __init__(
        self, items: Sequence[Item], behind: Mapping[str, Row], near_at: float, embeddings: Embeddings | None
    ) -> None:
        self._items = items
        self._behind = behind
        self._near_at = near_at
        self._embeddings = embeddings

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        ledger, items = Ledger(), [*self._items, *context.suites]
        semantic = context.spec.data.duplicates.semantic if self._embeddings is not None else None
        texts = _Texts(items, self._behind, rows, self._near_at, self._embeddings)
        customers = context.spec.data.curation.customers
        tested = [*(row for row in rows if row.split == TEST), *self._behind.values()]
        users = {row.user for row in tested if row.user} if customers else set[str]()
        held = [*range(len(items)), *texts.places(row for row in rows if row.split == TEST)]
        pairs, reasons = 0, dict[str, dict[str, int]]()
        for name in (VALIDATION, TRAIN):
            mine = [row for row in rows if row.split == name]
            before = len(ledger.entries)
            for row in mine:
                if row.user in users:
                    ledger.remove(row, "withheld_customer")
            mine = ledger.kept(mine)
            pairs += self._proposed(mine, held, texts, ledger)
            for overlap in texts.overlaps:
                mine = ledger.kept(mine)
                best = overlap.best(np.array(texts.places(mine), np.int64), np.array(held, np.int64))
                for at, (other, similarity) in best.items():
                    told = f"held out: {texts.names[held[other]]} at {similarity:.2f}"
                    ledger.remove(mine[at], "withheld_near", told)
            mine = ledger.kept(mine)
            if semantic is not None and mine and held:
                vectors = texts.vectors
                close = nearest(vectors[texts.places(mine)], vectors[held], semantic - _HAIR)
                for at, (other, cosine) in close.items():
                    ledger.remove(
                        mine[at], "withheld_semantic", f"held out: {texts.names[held[other]]} at {cosine:.2f}"
                    )
            mine = ledger.kept(mine)
            held += texts.places(mine)
            users |= {row.user for row in mine if row.user} if customers else set()
            reasons[name] = dict(sorted(Counter(each.rule for each in ledger.entries[before:]).items()))
        facts = {
            "leakage": {
                "threshold": self._near_at,
                "semantic": semantic,
                "method": f"{ALGORITHM}, verified, then {METHOD}",
                "suites": {"own": len(self._items), "others": len(context.suites)},
                "withheld": reasons,
                "pairs_verified": pairs,
            }
        }
        return Result(ledger.kept(rows), ledger, facts)

    def _proposed(self, mine: Sequence[Row], held: Sequence[int], texts: "_Texts", ledger: Ledger) -> int:
        """Withhold what buckets propose, which copies of a frame do not make many; returns pairs verified."""
        known, new = [texts.told[at] for at in held], [texts.told[at] for at in texts.places(mine)]
        neighbours = MinHashNeighbours([each.form for each in (*known, *new)])
        return withhold(mine, new, known, neighbours, self._near_at, ledger)
