"""Groups and splits: settled from all rows, before anything is repaired, removed or redacted."""

from collections import Counter
from collections.abc import Sequence

from services.curation.compute.engines import sketcher_of
from services.curation.compute.near import group_texts
from services.curation.compute.near_sketch import ALGORITHM
from services.curation.compute.semantic import Embeddings, find_semantic
from services.curation.compute.steps.repair import clean
from services.curation.domain.clusters import GROUP_THRESHOLD
from services.curation.domain.grouping import groups_of, place, public_names
from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import Row, asked
from services.curation.domain.split import TEST, TRAIN
from services.curation.domain.steps import Context, Result
from services.curation.domain.text import Reading


class Group:
    """Sets the group and split of each row by customer, conversation, template, near and semantic duplicates."""

    name, version = "group", 7

    def __init__(self, embeddings: Embeddings | None) -> None:
        self._embeddings = embeddings

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        reading = Reading()
        # Cleaned here as well, and by no policy: a setting that changed groups would move rows between splits.
        texts = [clean(asked(row)) for row in rows]
        centres: list[Sequence[int]] = [group_texts(texts, sketcher=sketcher_of(context.spec))]
        policy, semantic = context.spec.data.curation, context.spec.data.duplicates.semantic
        method = f"stars at {GROUP_THRESHOLD} on {ALGORITHM}"
        if self._embeddings is not None and semantic is not None:
            alike = find_semantic(texts, threshold=semantic, guard=False, embeddings=self._embeddings)
            centres.append(alike.centres)
            method += f", then at {semantic} on {alike.method}"
        public = public_names(context.secret, context.tenant)
        groups = groups_of(
            rows, lambda at: reading.form(texts[at]), centres, context.placed, customers=policy.customers
        )
        placed = place(
            rows, groups, context.placed, public, context.salt, context.fractions, policy.holdout_after,
            policy.validation_sources,
        )  # fmt: skip
        largest = Counter(groups).most_common(1)
        facts = {
            "groups": {
                "distinct": len(set(groups)),
                "method": method,
            },
            "placed": {row.row_id: (row.split_group, row.split) for row in placed},
            "largest_group": {"rows": largest[0][1] if largest else 0},
        }
        return Result(placed, Ledger(), facts)


class Holdout:
    """Keeps what may only measure out of training, where its group began before: what came after the temporal
    holdout, and rows of a source that validates.
    """

    name, version = "holdout", 2

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        ledger, policy = Ledger(), context.spec.data.curation
        after, validating = policy.holdout_after, frozenset(policy.validation_sources)
        for row in rows:
            if row.split == TRAIN and row.source in validating:
                ledger.remove(row, "withheld_validation")
            elif after is not None and row.split != TEST and row.created_at >= after and row.source not in validating:
                ledger.remove(row, "withheld_after_holdout", f"{row.created_at.isoformat()}")
        return Result(ledger.kept(rows), ledger)
