"""What a teacher wrote may only train: it never judges, and never enters a suite."""

from collections.abc import Sequence

from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import SYNTHETIC, Row
from services.curation.domain.split import TRAIN
from services.curation.domain.steps import Context, Result


class Synthetic:
    """Takes out synthetic rows whose group does not stand in training."""

    name, version = "synthetic", 1

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:  # noqa: ARG002 - one signature for all
        """As `Step`."""
        ledger = Ledger()
        for row in rows:
            if row.kind == SYNTHETIC and row.split != TRAIN:
                ledger.remove(row, "synthetic_held_out", f"group {row.split_group} is {row.split}")
        return Result(ledger.kept(rows), ledger)
