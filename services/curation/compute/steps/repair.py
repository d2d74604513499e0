"""Repairs of text: bytes that were read under a wrong encoding, and what nobody can see."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import ftfy

from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import Row, rewritten
from services.curation.domain.steps import Context, Result
from services.curation.domain.text import normalise

# Repairs of bytes read wrongly, and nothing that changes what somebody typed.
_REPAIR = ftfy.TextFixerConfig(
    unescape_html=False, uncurl_quotes=False, fix_latin_ligatures=False, fix_character_width=False, explain=False
)


def decode(text: str) -> str:
    """The text with broken encodings repaired (ftfy)."""
    return text if text.isascii() else ftfy.fix_text(text, _REPAIR)


@lru_cache(65_536)
def clean(text: str) -> str:
    """The text with encodings repaired and blanks normalised."""
    return normalise(decode(text))


class Encoding:
    """Repairs encodings."""

    name, version = "encoding", 3

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        if not context.spec.data.curation.repair.encoding:
            return Result(list(rows), Ledger())
        return _edited(rows, decode, "encoding_repaired")


class Whitespace:
    """Normalises to NFC without controls and needless blanks; line breaks and indentation stay."""

    name, version = "whitespace", 4

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        if not context.spec.data.curation.repair.whitespace:
            return Result(list(rows), Ledger())
        return _edited(rows, normalise, "whitespace_or_controls_cleaned")


def _edited(rows: Sequence[Row], change: Callable[[str], str], rule: str) -> Result:
    ledger, edited = Ledger(), []
    for row in rows:
        now = rewritten(row, change)
        if row.category:
            now = replace(now, category=change(row.category) or None)
        if now != row:
            ledger.edit(row, rule)
        edited.append(row if now == row else now)
    return Result(edited, ledger)
