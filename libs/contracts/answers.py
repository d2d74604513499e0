"""When two answers are the same answer: JSON by value, other text by its words."""

import json

from libs.contracts.ids import digest_bytes


def strict_json(text: str) -> object:
    """Parse strict JSON: duplicate keys, NaN and Infinity are refused with ValueError."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("duplicate key")
        return result

    def constant(name: str) -> object:
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, object_pairs_hook=unique, parse_constant=constant)


def canonical_answer(text: str) -> str:
    """The canonical form of an answer: JSON with sorted keys and no spaces, other text with single spaces."""
    stripped = text.strip()
    if stripped[:1] in ("{", "["):
        try:
            return json.dumps(strict_json(stripped), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        except (ValueError, RecursionError):
            return " ".join(stripped.split())
    return " ".join(stripped.split())


def same_answer(left: str, right: str) -> bool:
    """Exact match on canonical forms."""
    return canonical_answer(left) == canonical_answer(right)


def answer_digest(text: str) -> str:
    """Digest of the canonical form: equal digests are the same answer."""
    return digest_bytes(canonical_answer(text).encode())
