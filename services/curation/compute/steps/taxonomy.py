"""Categories: other names become the declared one, and what is of no declared category is held back."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from libs.contracts.task import Act
from services.curation.domain.acts import suspect
from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import Row
from services.curation.domain.steps import Context, Result


class Aliases:
    """Renames categories by `data.curation.taxonomy.aliases`."""

    name, version = "aliases", 1

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        aliases, ledger, edited = context.spec.data.curation.taxonomy.aliases, Ledger(), []
        for row in rows:
            name = aliases.get(row.category or "")
            if name is not None and name != row.category:
                ledger.edit(row, "category_renamed", f"{row.category} -> {name}")
            edited.append(replace(row, category=name) if name is not None else row)
        return Result(edited, ledger)


class Taxonomy:
    """Checks categories against those declared, if any are."""

    name, version = "taxonomy", 1

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        policy, ledger, questions = context.spec.data.curation.taxonomy, Ledger(), []
        found: Counter[str] = Counter()
        for row in rows:
            if policy.categories and row.category not in policy.categories:
                found[row.category or ""] += 1
                # A row of no category can still teach; one of a wrong category teaches the wrong thing.
                act = policy.unknown if row.category else Act.KEEP
                detail = f"{row.category or 'none'} is not declared"
                questions += suspect(row, "category_unknown", "category", act, detail, 0.7, ledger, context)
        facts = {"taxonomy": {"declared": list(policy.categories), "undeclared": dict(sorted(found.items()))}}
        return Result(ledger.kept(rows), ledger, facts, questions)
