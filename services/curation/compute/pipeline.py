"""From rows to a dataset version: the steps in order, the suite, the proof, and a ledger that reconciles."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from libs.contracts.errors import FailedPrecondition
from services.curation.compute.edges import proof_of
from services.curation.compute.engines import duplicates_of
from services.curation.compute.readable import before_the_suite, readable
from services.curation.compute.redaction import Redaction
from services.curation.compute.steps import after_the_suite
from services.curation.domain.clusters import GROUP_THRESHOLD
from services.curation.domain.grouping import conversation_of, public_names
from services.curation.domain.ledger import Ledger, reconcile
from services.curation.domain.queue import ordered, per_category
from services.curation.domain.review import Question
from services.curation.domain.rows import Row
from services.curation.domain.split import SPLITS, TEST
from services.curation.domain.steps import Context, run
from services.curation.domain.suite import Item, admit, item_id_of, item_of, sample


@dataclass(slots=True)
class Version:
    """What a build yields: rows per split, the suite, the ledger, questions for review, and what the report tells.

    `placed` says group and split of every row that came in, `labels` what sources and licences are called outside.
    """

    splits: dict[str, list[Row]]
    placed: dict[str, tuple[str, str]]
    items: list[Item]
    new_items: int
    ledger: Ledger
    outcomes: dict[str, int]
    facts: dict[str, Any] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def groups(self) -> dict[str, str]:
        """Group by row id."""
        return {row_id: group for row_id, (group, _) in self.placed.items()}


def curate(rows: Sequence[Row], context: Context) -> Version:
    """Build a version from all rows in order of arrival; `context.suite` is the frozen one (None: this founds it).

    Raises InvalidInput naming a wrong setting, DataLoss when the ledger does not reconcile or an edge crosses.
    """
    embeddings = duplicates_of(context.spec, rows, context.erased)
    first = before_the_suite(readable(rows, context, embeddings), context, embeddings)
    items, new, lost = _suite([row for row in first.rows if row.split == TEST and row.label is not False], context)
    # What grouping keeps together and what merging calls a duplicate: neither may stand in two splits.
    near_at = min(GROUP_THRESHOLD, first.facts["near_duplicates"]["threshold"])
    held = [*items, *context.suites]
    behind = _behind(held, rows, context)
    second = run(after_the_suite(items, behind, near_at, embeddings), first.rows, context)
    ledger = first.ledger
    ledger.take(second.ledger, frozenset())
    kept = second.rows
    placed = first.facts.pop("placed")
    proof = proof_of(kept, held, behind, context.spec, near_at, embeddings)
    outcomes = reconcile(ledger, [row.row_id for row in rows], [row.row_id for row in kept])
    facts = first.facts | second.facts
    facts["leakage"] = {**facts["leakage"], **proof}
    facts["erased_items"] = lost
    known = {row.row_id: row for row in (*first.rows, *kept)}
    questions = ordered([*first.questions, *second.questions], known, per_category(kept))
    labels = Redaction.labels(context, [label for row in rows for label in (row.source, row.licence)])
    kept = [replace(row, source=labels.get(row.source, ""), licence=labels.get(row.licence or "")) for row in kept]
    by_split = {name: [row for row in kept if row.split == name] for name in SPLITS}
    return Version(by_split, placed, items, new, ledger, outcomes, facts, questions, labels)


def _behind(items: Sequence[Item], rows: Sequence[Row], context: Context) -> dict[str, Row]:
    """The row that each item was made of, by item, with its conversation: of those that came in."""
    public, names = public_names(context.secret, context.tenant), {item.item_id for item in items}
    found: dict[str, Row] = {}
    for row in rows:
        name = item_id_of(row.row_id)
        if name in names:
            own = conversation_of(row)
            found[name] = replace(row, conversation=public(own) if own is not None else None)
    return found


def _suite(test: Sequence[Row], context: Context) -> tuple[list[Item], int, int]:
    """The items, how many of them are new, and how many left: their subject was erased, or took consent back."""
    policy, system = context.spec.evaluation.suite, context.spec.system
    groups = {row.row_id: row.split_group for row in test}
    if context.suite is None:
        found = sample([item_of(row, row.split_group, system) for row in test], policy.max_items, context.salt)
        return found, len(found), 0
    frozen = [item for item in context.suite if item.item_id not in context.erased_items]
    new = admit(frozen, test, groups, sources=policy.admit.sources, system=system, salt=context.salt)
    lost = len(context.suite) - len(frozen)
    if lost and not frozen and not new:
        raise FailedPrecondition(
            "erasures and consent taken back left the gate suite without an item", reason="SUITE_EMPTY", field="suite"
        )
    return [*frozen, *new], len(new), lost
