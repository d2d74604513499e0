"""Personal data in many texts: a first look at all of them by compiled columns, the patterns where one may match."""

from collections.abc import Collection, Sequence

import polars as pl

from services.curation.domain.personal import KINDS, NAMES, Finder, Span, find
from services.curation.domain.personal_patterns import PATTERNS, Pattern


class BothFinders:
    """Implements `domain.personal.Finder`: what the first finds, and of the second what lies beside it."""

    def __init__(self, first: Finder, second: Finder) -> None:
        self._first, self._second = first, second

    def find(self, texts: Sequence[str], kinds: Collection[str] = (*KINDS, *NAMES)) -> list[list[Span]]:
        """The spans of each text, ascending, none over another."""
        told = zip(self._first.find(texts, kinds), self._second.find(texts, kinds), strict=True)
        return [sorted([*sure, *(each for each in more if _free(each, sure))]) for sure, more in told]


class PatternFinder:
    """Implements `domain.personal.Finder`: finds what `domain.personal.find` finds, faster over many texts."""

    def find(self, texts: Sequence[str], kinds: Collection[str] = KINDS) -> list[list[Span]]:
        """The spans of each text, ascending, none over another."""
        column = pl.Series("text", texts, dtype=pl.String)
        look = {screen: column.str.contains(screen) for screen in {pattern.screen for pattern in PATTERNS}}
        may: list[list[Pattern]] = [[] for _ in texts]
        for pattern in PATTERNS:
            for at in look[pattern.screen].arg_true():
                may[at].append(pattern)
        return [find(text, kinds, some) if some else [] for text, some in zip(texts, may, strict=True)]


def _free(span: Span, taken: Sequence[Span]) -> bool:
    return not any(span.start < other.end and other.start < span.end for other in taken)
