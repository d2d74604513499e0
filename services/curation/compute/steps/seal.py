"""Nothing that is held out is learnt: training and validation lose what a held-out text would give away."""

from collections.abc import Sequence

from services.curation.compute.neighbours import ALGORITHM, MinHashNeighbours
from services.curation.domain.leakage import Checked, HeldOut, withhold
from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import Row, asked
from services.curation.domain.split import TEST, TRAIN, VALIDATION
from services.curation.domain.steps import Context, Result
from services.curation.domain.suite import Item
from services.curation.domain.text import Reading


class Seal:
    """Withholds by group, customer, text and likeness against the suites, the test rows, and (training) validation."""

    name, version = "seal", 2

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        reading, ledger = Reading(), Ledger()
        threshold = context.spec.data.duplicates.threshold

        def described(row: Row) -> HeldOut:
            text = asked(row)
            return HeldOut(reading.key(text), reading.form(text), row.split_group, row.row_id)

        items = [*self._items, *context.suites]
        test = [row for row in rows if row.split == TEST]
        held = [HeldOut(reading.key(each.asked), reading.form(each.asked), each.group, each.item_id) for each in items]
        held += [described(row) for row in test]
        customers = context.spec.data.curation.customers
        users = {row.user for row in test if row.user} if customers else set[str]()
        checks: dict[str, Checked] = {}
        for name in (VALIDATION, TRAIN):
            for row in rows:
                if row.split == name and row.user in users:
                    ledger.remove(row, "withheld_customer")
            mine = ledger.kept(row for row in rows if row.split == name)
            texts = [described(row) for row in mine]
            neighbours = MinHashNeighbours([each.form for each in [*held, *texts]])
            checks[name] = withhold(mine, texts, held, neighbours, threshold, ledger)
            # Candidates come from buckets of bounded size; what is the same but for its numbers never depends on them.
            same = {each.form: each.name for each in held}
            for row, mine_is in zip(mine, texts, strict=True):
                if mine_is.form in same:
                    ledger.remove(row, "withheld_near", f"held out: {same[mine_is.form]}")
            held += [described(row) for row in ledger.kept(mine)]
            users |= {row.user for row in ledger.kept(mine) if row.user} if customers else set()
        facts = {
            "leakage": {
                "threshold": threshold,
                "method": ALGORITHM,
                "suites": {"own": len(self._items), "others": len(context.suites)},
                "withheld": {name: checked.withheld for name, checked in checks.items()},
                "pairs_verified": sum(checked.pairs for checked in checks.values()),
            }
        }
        return Result(ledger.kept(rows), ledger, facts)
