"""What must not be learnt: training rows that a held-out text would give away."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.curation.domain.clusters import Neighbours
from services.curation.domain.rows import Ledger, Row
from services.curation.domain.text import jaccard


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One held-out text: its key, its form (masked word set), its group and who it is."""

    key: str
    form: frozenset[str]
    group: str
    name: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What the check saw: rows checked, candidate pairs verified, rows withheld by reason."""

    rows: int
    pairs: int
    withheld: dict[str, int]


def withhold(
    rows: Sequence[Row],
    texts: Sequence[HeldOut],
    held: Sequence[HeldOut],
    neighbours: Neighbours,
    threshold: float,
    ledger: Ledger,
) -> Checked:
    """Remove every row that shares group or text with a held-out one, or whose form is similar at `threshold`.

    `texts[i]` describes `rows[i]`. `neighbours` numbers the held-out texts from 0 and the rows after them; a number or
    identifier alone does not make two texts different here, since it would not to a model.
    """
    for at in range(len(held)):
        neighbours.add(at)
    keys = {each.key: each.name for each in held}
    groups = {each.group: each.name for each in held}
    pairs = 0
    withheld = {"withheld_group": 0, "withheld_exact": 0, "withheld_near": 0}
    for at, (row, mine) in enumerate(zip(rows, texts, strict=True)):
        reason, other = "", ""
        if mine.group in groups:
            reason, other = "withheld_group", groups[mine.group]
        elif mine.key in keys:
            reason, other = "withheld_exact", keys[mine.key]
        else:
            for candidate in neighbours.near(len(held) + at):
                pairs += 1
                if jaccard(mine.form, held[candidate].form) >= threshold:
                    reason, other = "withheld_near", held[candidate].name
                    break
        if reason:
            withheld[reason] += 1
            ledger.remove(row, reason, f"held out: {other}")
    return Checked(len(rows), pairs, withheld)
