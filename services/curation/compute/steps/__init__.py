"""The steps of a build in their order: what is permanent first, then what repairs, judges, merges and keeps apart."""

from collections.abc import Mapping, Sequence

from services.curation.compute.semantic import Embeddings
from services.curation.compute.steps.admit import Admit
from services.curation.compute.steps.answers import Answers, Blame, Fences
from services.curation.compute.steps.balance import Balance
from services.curation.compute.steps.cascade import Cascade
from services.curation.compute.steps.conflicts import Conflicts, Exact
from services.curation.compute.steps.erase import Erase
from services.curation.compute.steps.group import Group, Holdout
from services.curation.compute.steps.judge import Judge
from services.curation.compute.steps.labels import Labels
from services.curation.compute.steps.limit import Limit
from services.curation.compute.steps.near import Near, Semantic
from services.curation.compute.steps.personal import Personal
from services.curation.compute.steps.quality import Quality
from services.curation.compute.steps.repair import Encoding, Whitespace
from services.curation.compute.steps.review import Reviewed
from services.curation.compute.steps.roles import Roles
from services.curation.compute.steps.seal import Seal
from services.curation.compute.steps.signals import Confidence, Signals
from services.curation.compute.steps.style import Style
from services.curation.compute.steps.synthetic import Synthetic
from services.curation.compute.steps.taxonomy import Aliases, Taxonomy
from services.curation.domain.clusters import GROUP_THRESHOLD
from services.curation.domain.rows import Row
from services.curation.domain.steps import Step
from services.curation.domain.suite import Item


def to_be_read(embeddings: Embeddings | None) -> tuple[Step, ...]:
    """Steps up to the policy on personal data: before its end nobody may read a row. `embeddings` tell semantic
    duplicates (None: nobody asked for them).
    """
    return (
        Erase(), Group(embeddings), Holdout(), Admit(), Signals(), Confidence(), Encoding(), Whitespace(), Roles(),
        Personal(),
    )  # fmt: skip


def to_the_suite(embeddings: Embeddings | None) -> tuple[Step, ...]:
    """Steps after these and before the gate suite is drawn from the test split."""
    return (
        Reviewed(), Fences(), Style(), Blame(), Answers(), Quality(), Aliases(), Taxonomy(), Synthetic(), Exact(),
        Conflicts(), Judge(), Labels(), Limit(), Near(), Semantic(embeddings),
    )  # fmt: skip


def after_the_suite(
    items: Sequence[Item], behind: Mapping[str, Row], near_at: float, embeddings: Embeddings | None
) -> tuple[Step, ...]:
    """Steps that need to know what is held out, and the rows `behind` it; a text is near one of it from `near_at`."""
    return Seal(items, behind, near_at, embeddings), Cascade(items), Balance()


def versions() -> dict[str, int]:
    """Version per step; part of a policy's digest, since other code may decide otherwise."""
    steps = (*to_be_read(None), *to_the_suite(None), *after_the_suite((), {}, GROUP_THRESHOLD, None))
    return {step.name: step.version for step in steps}


__all__ = ["after_the_suite", "to_be_read", "to_the_suite", "versions"]
