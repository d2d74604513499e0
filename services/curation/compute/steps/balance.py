"""Balance: no category has more than its share of training rows, and what each lacks is said."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from services.curation.domain.balance import lacking, shares
from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import Row
from services.curation.domain.split import TRAIN
from services.curation.domain.steps import Context, Result


class Balance:
    """Thins out training rows of large categories; which rows stay is a function of salt and row."""

    name, version = "balance", 1

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        policy, ledger = context.spec.data.curation.balance, Ledger()
        by_category: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            if row.split == TRAIN and row.category:
                by_category[row.category].append(row)
        counts = {name: len(group) for name, group in by_category.items()}
        wanted = shares(counts, policy.cap, policy.temperature)
        for name, group in sorted(by_category.items()):
            ranked = sorted(group, key=lambda row: hashlib.sha256(f"{context.salt}/{row.row_id}".encode()).digest())
            for row in ranked[wanted[name] :]:
                ledger.remove(row, "over_category_cap", f"{wanted[name]} of {counts[name]} rows of {name} stay")
        declared = context.spec.data.curation.taxonomy.categories
        facts = {
            "balance": {
                "before": dict(sorted(counts.items())),
                "after": dict(sorted(wanted.items())),
                "lacking": lacking(wanted, declared, policy.floor),
            }
        }
        return Result(ledger.kept(rows), ledger, facts)
