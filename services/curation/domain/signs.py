"""Characters outside ASCII that stand in words though Python counts them as no letters: marks, currencies, pictures."""

import re
import sys
import unicodedata
from collections.abc import Iterator

# Vowel signs, tone marks and accents without a composed form: in most scripts of Asia they are what tells words apart.
_MARKED = (range(0x0300, 0xFE00), range(0xFE20, 0xFE30), range(0x10000, 0x1F000))
_PICTURES = "\u2600-\u27bf\u2b50\u2b55\U0001f000-\U0001faff"
CURRENCIES = "$\u00a2\u00a3\u00a5\u20a0-\u20cf"
# How a sign is joined or drawn, which no reader sees as another sign.
_DRAWN = re.compile("[\u200c\u200d\u00ad\ufe00-\ufe0f\U0001f3fb-\U0001f3ff]")
# The dot that is left where a dotted capital I of Turkish is folded.
_DOTTED = "i\u0307"


def _ranges() -> Iterator[str]:
    start = last = -2
    marks = (code for each in _MARKED for code in each if unicodedata.category(chr(code)) in ("Mn", "Mc"))
    for code in (*marks, sys.maxunicode + 2):
        if code != last + 1:
            if start >= 0:
                yield f"{chr(start)}-{chr(last)}"
            start = code
        last = code


MARKS = "".join(_ranges())
PARTS = f"{CURRENCIES}%\u00b0{MARKS}{_PICTURES}"
"""What is part of a word beside letters and digits, as it stands within a class of a pattern."""

# Scripts without blanks between words: each letter is one, with the marks on it, and so is each picture.
_UNSPACED = re.compile(f"([\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff][{MARKS}]*|[{_PICTURES}])")
_NO_WORD = re.compile(f"[^\\w\x00-\x7f{PARTS}]")
_FOREIGN = re.compile(r"[^\x00-\x7f]+")
_FOREIGN_DIGIT = re.compile(r"[^\D0-9]")


def fold(text: str) -> str:
    """The text as words are read from it: outside ASCII, compatibility forms merged (NFKC), case folded, digits made
    ASCII, punctuation blanked, pictures and unspaced scripts taken apart; ASCII stays as it is.
    """
    if text.isascii():
        return text
    plain = unicodedata.normalize("NFKC", _DRAWN.sub("", text.replace("\u2019", "'").replace("\u2212", "-")))
    plain = unicodedata.normalize("NFC", _FOREIGN.sub(lambda run: run[0].casefold(), plain)).replace(_DOTTED, "i")
    plain = _FOREIGN_DIGIT.sub(lambda digit: str(unicodedata.digit(digit[0], digit[0])), plain)
    return _UNSPACED.sub(r" \1 ", _NO_WORD.sub(" ", plain))
