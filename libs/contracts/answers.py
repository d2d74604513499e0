"""When two answers are the same answer: JSON by value, other text by its words."""

import json

from libs.contracts.ids import digest_bytes


def strict_json(text: str) -> object:
    """Parse strict JSON: duplicate keys, NaN and Infinity are refused with ValueError."""
    if text.startswith("\ufeff"):
        raise ValueError("begins with a byte-order mark")
    return _STRICT.decode(text)


def canonical_answer(text: str) -> str:
    """The canonical form of an answer: JSON with sorted keys and no spaces, other text with single spaces."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            return _CANONICAL.encode(strict_json(text.strip()))
        except (ValueError, RecursionError):
            return single_spaced(text)
    return single_spaced(text)


def single_spaced(text: str) -> str:
    """The words of a text with one space between them, as `" ".join(text.split())`."""
    stripped = text.strip()
    # No white space but the space itself is printable: most texts need not be taken apart.
    return stripped if "  " not in stripped and stripped.isprintable() else " ".join(stripped.split())


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate key")
    return result


def _constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


# Made once: a decoder or encoder made for each text would cost a short one as much as reading it.
_STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant)
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def same_answer(left: str, right: str) -> bool:
    """Exact match on canonical forms."""
    return canonical_answer(left) == canonical_answer(right)


def answer_digest(text: str) -> str:
    """Digest of the canonical form: equal digests are the same answer."""
    return digest_bytes(canonical_answer(text).encode())
