"""How an arm dresses a question: its own system prompt, examples like it, passages that may hold the answer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from libs.contracts.ids import digest_bytes
from libs.contracts.inference import Message

PASSAGES = "Use these passages where they help:"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a question is dressed with. `source` is the digest of the train split or documents drawn from."""

    system: str | None = None
    shots: int = 0
    passages: int = 0
    source: str = ""

    @property
    def bare(self) -> bool:
        """Whether questions stay as they are."""
        return self.system is None and not self.shots and not self.passages

    @property
    def digest(self) -> str:
        """Empty for bare questions."""
        if self.bare:
            return ""
        parts = [self.system, self.shots, self.passages, self.source, "bm25:lucene", "v1"]
        return digest_bytes(json.dumps(parts, ensure_ascii=False).encode())


def dress(
    question: Sequence[Message],
    system: str,
    recipe: Recipe,
    examples: Sequence[tuple[Message, Message]] = (),
    passages: Sequence[str] = (),
) -> tuple[tuple[Message, ...], ...]:
    """The messages of one question, fully dressed first, then with less and less around it, for a prompt too long.

    Args:
        question: Messages of the item; the last one is the user's.
        system: The task's system prompt, for recipes that have none of their own.
        recipe: What to dress with.
        examples: Questions and their answers, the most alike first.
        passages: Texts, the most alike first.
    """
    if recipe.bare:
        return (tuple(question),)
    told = next((message.content for message in question if message.role == "system"), system)
    rest = [message for message in question if message.role != "system"]
    told = told if recipe.system is None else recipe.system
    most = max(len(examples), len(passages))
    variants = []
    for kept in range(most, -1, -1):
        shown = passages[: min(kept, len(passages))]
        parts = [told] if told else []
        if shown:
            parts.append("\n".join([PASSAGES, *(f"[{place}] {text}" for place, text in enumerate(shown, 1))]))
        # The example most like the question stands next to it.
        pairs = [message for pair in reversed(examples[: min(kept, len(examples))]) for message in pair]
        head = [Message(role="system", content="\n\n".join(parts))] if parts else []
        variants.append((*head, *pairs, *rest))
    return tuple(dict.fromkeys(variants))


def passages_of(text: str, words: int = 120, overlap: int = 20) -> list[str]:
    """Passages of a document: its paragraphs, the long ones cut with an overlap."""
    found: list[str] = []
    for paragraph in text.split("\n\n"):
        parts = paragraph.split()
        for start in range(0, max(1, len(parts) - overlap), words - overlap):
            piece = " ".join(parts[start : start + words])
            if piece:
                found.append(piece)
    return found
