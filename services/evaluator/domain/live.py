"""What a log line tells of an answer without its text: length, language, refusal, a sketch of what was asked."""

import json
import math
import re
import struct
from dataclasses import dataclass
from zlib import crc32

from libs.contracts.answers import strict_json

SKETCH = 32
_SKETCHED = 1000
_REFUSAL = re.compile(
    r"^\W*(?:i['\u2019]?m (?:sorry|afraid)|i am (?:sorry|afraid|unable)|sorry,? (?:but )?i|"
    r"i (?:can(?:no|['\u2019])t|won['\u2019]t|"
    r"am not able|must decline)|as an ai\b|es tut mir leid|ich kann (?:das|dir|ihnen|dabei)\b.{0,20}nicht|"
    r"je (?:suis désolé|ne peux pas)|lo siento|no puedo|mi dispiace|non posso)",
    re.IGNORECASE,
)
_SCRIPTS = (
    ("zh", "\u4e00", "\u9fff"), ("ja", "\u3040", "\u30ff"), ("ko", "\uac00", "\ud7af"), ("ru", "\u0400", "\u04ff"),
    ("ar", "\u0600", "\u06ff"), ("he", "\u0590", "\u05ff"), ("el", "\u0370", "\u03ff"), ("hi", "\u0900", "\u097f"),
    ("th", "\u0e00", "\u0e7f"),
)  # fmt: skip
_COMMON = {
    "en": "the and is of to in that it for you with not this my be on are have was i a please can",
    "de": "der die das und ist nicht ein eine ich zu den mit auf für es sie wir von bitte dem im kann wie",
    "fr": "le la les et est pas un une je de des que pour vous nous dans avec sur ce mon merci il en",
    "es": "el la los las y es no un una yo de que para por con en se su mi lo como gracias está pero",
    "it": "il lo la gli e è non un una io di che per con in si mi come grazie sono del della ma al",
    "pt": "o a os as e é não um uma eu de que para por com em se meu como obrigado está mas do da",
    "nl": "de het een en is niet ik van te dat op voor met zijn er maar aan mijn kan wij dit ook bij",
}
_WORDS = {name: frozenset(words.split()) for name, words in _COMMON.items()}
_CATEGORY_FIELDS = ("category", "label", "class", "intent")


@dataclass(frozen=True, slots=True)
class Traits:
    """What is kept of one answered request for the live view; `sketch` holds SKETCH signed bytes."""

    input_chars: int
    output_chars: int
    language: str
    category: str | None
    refused: bool
    sketch: bytes


def traits_of(question: str, answer: str, refusals: tuple[str, ...] = ()) -> Traits:
    """The traits of a request with its answer; `refusals` are further beginnings of answers that refuse."""
    return Traits(
        len(question), len(answer), language_of(question), category_of(answer), refused(answer, refusals),
        sketch_of(question),
    )  # fmt: skip


def refused(answer: str, refusals: tuple[str, ...] = ()) -> bool:
    """Whether an answer begins as refusals do."""
    start = answer.strip()[:200]
    return bool(_REFUSAL.match(start)) or any(start.lower().startswith(each.lower()) for each in refusals)


def language_of(text: str) -> str:
    """A guess at the language, from its script or its commonest words; `other` where neither tells."""
    letters = [letter for letter in text[:_SKETCHED] if letter.isalpha()]
    if not letters:
        return "none"
    for name, first, last in _SCRIPTS:
        if 3 * sum(first <= letter <= last for letter in letters) > len(letters):
            return name
    words = re.findall(r"[^\W\d_]+", text[:_SKETCHED].lower())
    counts = {name: sum(word in common for word in words) for name, common in _WORDS.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] * 12 >= len(words) and counts[best] > 0 else "other"


def category_of(answer: str) -> str | None:
    """The category that a JSON answer names, if it names one."""
    if not answer.lstrip().startswith("{"):
        return None
    try:
        told = strict_json(answer.strip())
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    found = next((told[name] for name in _CATEGORY_FIELDS if name in told), None)
    return found[:100] if isinstance(found, str) else json.dumps(found)[:100] if isinstance(found, int) else None


def sketch_of(text: str) -> bytes:
    """A hashed bag of letter trigrams as SKETCH signed bytes of unit length: a lexical embedding that needs no model.

    Feature hashing with signs (Weinberger et al. 2009, arXiv 0902.2206).
    """
    counts = [0] * SKETCH
    folded = " ".join(text[:_SKETCHED].lower().split()).encode()
    for place in range(max(1, len(folded) - 2)):
        hashed = crc32(folded[place : place + 3])
        counts[hashed % SKETCH] += 1 if hashed & 0x8000_0000 else -1
    length = math.sqrt(sum(count * count for count in counts)) or 1.0
    return struct.pack(f"{SKETCH}b", *(round(127.0 * count / length) for count in counts))
