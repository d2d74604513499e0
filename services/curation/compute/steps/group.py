"""Groups and splits: settled from all rows and no policy, before anything is repaired, removed or redacted."""

from collections import Counter
from collections.abc import Sequence

from services.curation.compute.neighbours import ALGORITHM, MinHashNeighbours
from services.curation.compute.steps.repair import clean
from services.curation.domain import clusters
from services.curation.domain.grouping import groups_of, place
from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import Row, asked
from services.curation.domain.split import TEST
from services.curation.domain.steps import Context, Result
from services.curation.domain.text import Reading


class Group:
    """Sets the group and split of each row by conversation, customer, template and near duplicates."""

    name, version = "group", 1

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        reading = Reading()
        # Cleaned here as well, and by no policy: a setting that changed groups would move rows between splits.
        forms = [reading.form(clean(asked(row))) for row in rows]
        neighbours = MinHashNeighbours(forms)
        centres = clusters.stars(forms, neighbours, clusters.GROUP_THRESHOLD)
        groups = groups_of(rows, forms, centres, context.placed, customers=context.spec.data.curation.customers)
        holdout = context.spec.data.curation.holdout_after
        placed = place(rows, groups, context.placed, context.salt, context.fractions, holdout)
        largest = Counter(groups).most_common(1)
        facts = {
            "groups": {
                "distinct": len(set(groups)),
                "method": f"stars at {clusters.GROUP_THRESHOLD} on {ALGORITHM}",
            },
            "placed": {row.row_id: (row.split_group, row.split) for row in placed},
            "largest_group": {"rows": largest[0][1] if largest else 0, "crowded_buckets": neighbours.crowded},
        }
        return Result(placed, Ledger(), facts)


class Holdout:
    """Keeps what came after the temporal holdout out of training, where its group began before."""

    name, version = "holdout", 1

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        ledger, after = Ledger(), context.spec.data.curation.holdout_after
        if after is not None:
            for row in rows:
                if row.split != TEST and row.created_at >= after:
                    ledger.remove(row, "withheld_after_holdout", f"{row.created_at.isoformat()}")
        return Result(ledger.kept(rows), ledger)
