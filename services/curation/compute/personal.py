"""Personal data in many texts: a first look at all of them by compiled columns, the patterns where one may match."""

from collections.abc import Collection, Sequence

import polars as pl

from services.curation.domain.personal import KINDS, Span, find
from services.curation.domain.personal_patterns import PATTERNS, Pattern


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
