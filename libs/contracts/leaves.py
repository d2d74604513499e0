"""What is said in a text that is JSON: its strings and numbers, each by itself, and not as they are escaped."""

import json
import re
from collections.abc import Callable, Iterator

Change = Callable[[str, str], str]
"""What becomes of a text that is called by a label."""

# A model writes JSON into a code fence as well.
_JSON = re.compile(r"\A\s*(?:```\w*[ \t]*\n\s*)?(?P<json>[\[{\"].*[\]}\"])\s*(?:```\s*)?\Z", re.DOTALL)
_TOKEN = re.compile(
    r'(?P<string>"(?:[^"\\]|\\.)*")(?P<key>\s*:)?|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)', re.DOTALL
)


def leaves_of(text: str) -> list[tuple[str, str]]:
    """Every text in it and its label, keys too: what a value stands under in an object is its label, elsewhere ``.

    A text that is neither JSON's object, list nor string is one text without a label.
    """
    found: list[tuple[str, str]] = []

    def note(leaf: str, label: str) -> str:
        found.append((leaf, label))
        return leaf

    rewritten(text, note)
    return found


def rewritten(text: str, change: Change) -> str:
    """The text with `change` made to each of its `leaves_of`; a number that is changed becomes a string.

    JSON stays JSON, and what is not changed stays as it is written. A text within may be JSON itself: arguments of
    calls are.
    """
    found = _JSON.match(text)
    if found is None or not _parses(found["json"]):
        return change(text, "")
    start, end = found.span("json")
    return text[:start] + "".join(_parts(found["json"], change)) + text[end:]


def _parts(told: str, change: Change) -> Iterator[str]:
    at, label = 0, ""
    for token in _TOKEN.finditer(told):
        yield told[at : token.start()]
        written, after = token["string"] or token["number"], token["key"] or ""
        value = _encodable(json.loads(written)) if token["string"] else written
        # A key has no label, and is that of the value after it.
        mine, label = ("", value) if after else (label, "")
        now = rewritten(value, lambda leaf, inner, mine=mine: change(leaf, inner or mine))  # type: ignore[misc]
        yield (written if now == value else json.dumps(now, ensure_ascii=False)) + after
        at = token.end()
    yield told[at:]


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _encodable(text: str) -> str:
    """JSON can write half a character; nothing else can."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
