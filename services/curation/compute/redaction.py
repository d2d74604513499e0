"""A task's policy on personal data, applied to many texts at once."""

from collections.abc import Collection, Iterable
from dataclasses import replace

from libs.contracts import leaves
from libs.contracts.leaves import leaves_of
from libs.contracts.pseudonyms import SURROGATE, Pseudonyms, naming_key
from services.curation.compute.engines import finder_of
from services.curation.compute.personal import PatternFinder
from services.curation.domain.personal import DROP, KEEP, KINDS, NAMES, Finder, Span, redact
from services.curation.domain.rows import Row, said, texts_of
from services.curation.domain.steps import Context

_NONE: frozenset[str] = frozenset()


class Redaction:
    """What the policy does with `texts`, in JSON with each string and number of it. Everywhere `named` are values that
    are pseudonyms already and stay.
    """

    def __init__(self, context: Context, texts: Iterable[str], finder: Finder | None = None) -> None:
        """Finds once whatever they hold, by the task's finder unless another is given.

        Raises FailedPrecondition where the finder that the task names is not there.
        """
        spec = context.spec
        self._actions = {kind: str(action) for kind, action in spec.data.redact.model_dump(mode="json").items()}
        self._style = spec.data.curation.pseudonyms
        self._names = Pseudonyms(naming_key(context.secret, context.tenant, spec.task), self._style)
        self._leaves = {text: leaves_of(text) for text in dict.fromkeys(texts)}
        labelled = list(dict.fromkeys(_labelled(*leaf) for found in self._leaves.values() for leaf in found))
        finder = finder or finder_of(spec)
        self._spans = dict(zip(labelled, finder.find(labelled, (*KINDS, *NAMES)), strict=True))

    @classmethod
    def of_labels(cls, context: Context, labels: Iterable[str]) -> "Redaction":
        """What it does with categories, sources and licences: who looks for names takes a word of its own for one."""
        return cls(context, labels, PatternFinder())

    @classmethod
    def labels(cls, context: Context, given: Iterable[str | None]) -> dict[str, str]:
        """What labels are called outside; a category that the task declares stays what it is."""
        distinct = {label for label in given if label}
        redaction = cls.of_labels(context, distinct)
        declared = context.spec.data.curation.taxonomy.categories
        return {label: label if label in declared else redaction.clean(label) for label in distinct}

    def kinds(self, texts: Iterable[str], named: Collection[str] = _NONE) -> list[str]:
        """The kind of each value that the policy does not keep."""
        return [span.kind for text in texts for leaf in self._leaves[text] for span in self._found(*leaf, named)]

    def dropped(self, kinds: Iterable[str]) -> str | None:
        """The kind for which a row that holds these is dropped."""
        return min((kind for kind in kinds if self._actions[kind] == DROP), default=None)

    def clean(self, text: str, named: Collection[str] = _NONE) -> str:
        """The text with a pseudonym for each of them."""

        def said(leaf: str, label: str) -> str:
            return redact(leaf, self._actions, self._names, self._found(leaf, label, named)).text

        return leaves.rewritten(text, said)

    def rewritten(self, row: Row) -> Row:
        """The row with every text clean; it says which pseudonyms only look like values."""
        now = said(row, lambda text: self.clean(text, row.named))
        if self._style != SURROGATE:
            return now
        given = {
            self._names.name(span.kind, leaf[span.start : span.end])
            for text in texts_of(row)
            for leaf, label in self._leaves[text]
            for span in self._found(leaf, label, row.named)
        }
        return replace(now, named=row.named | given)

    def _found(self, leaf: str, label: str, named: Collection[str]) -> list[Span]:
        before = len(_labelled("", label))
        spans = [
            replace(span, start=span.start - before, end=span.end - before)
            for span in self._spans[_labelled(leaf, label)]
            if self._actions[span.kind] != KEEP and span.start >= before
        ]
        return [span for span in spans if not (named and leaf[span.start : span.end] in named)]


def _labelled(leaf: str, label: str) -> str:
    """As it would stand in words: some values are told by what they are called."""
    return f"{label}: {leaf}" if label else leaf
