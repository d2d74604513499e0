"""The mask X-ray: which tokens train, the stop token among them, packed neighbours apart; or a refusal."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch

from libs.contracts.errors import FailedPrecondition
from services.trainer.compute.batches import collate
from services.trainer.compute.examples import Example, Item
from services.trainer.compute.learner import Learner
from services.trainer.compute.methods import Language
from services.trainer.compute.rows import Row
from services.trainer.domain.protocol import MaskedRow

_READ_BACK = 200
_SHOWN_CHARACTERS = 4000
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 6e-2}
_MEND = (
    "look at it with `pawl mask`, and mark the answer in the chat template with {% generation %}...{% endgeneration %}"
)


def check_masks(items: Sequence[Item], language: Language) -> None:
    """Refuse a run whose mask is wrong. Raises FailedPrecondition (MASK_WRONG) with the row and the mend.

    In every sequence something is trained, in one stretch, and that stretch ends with a stop token.
    """
    for item in items:
        for sequence in item.sequences:
            wrong = _wrong(sequence, language.stops)
            if wrong:
                raise FailedPrecondition(
                    f"row {sequence.row_id}: {wrong}; {_MEND}", reason="MASK_WRONG", row_id=sequence.row_id
                )


def check_text(rows: Iterator[Row], items: Sequence[Item], language: Language) -> None:
    """Read back what is trained in the first rows: the answer has to be in it and the question not.

    Raises FailedPrecondition (MASK_WRONG).
    """
    found = {sequence.row_id: sequence for item in items[:_READ_BACK] for sequence in item.sequences[:1]}
    for row in rows:
        sequence = found.pop(row.row_id, None)
        if sequence is None:
            continue
        trained = _squash(decode(language.tokenizer, trained_ids(sequence)))
        messages = row.talk.form(language.tokenizer)
        answer = _through(language.tokenizer, messages[-1]["content"])
        asked = next((each["content"] for each in reversed(messages) if each["role"] == "user"), "")
        question = _through(language.tokenizer, asked)
        if answer not in trained:
            raise FailedPrecondition(
                f"row {row.row_id}: the trained tokens read {trained[:80]!r}, the answer {answer[:80]!r}; {_MEND}",
                reason="MASK_WRONG", row_id=row.row_id,
            )  # fmt: skip
        if len(question) > len(answer) and question in trained:
            raise FailedPrecondition(
                f"row {row.row_id}: the question is trained as well as the answer; {_MEND}",
                reason="MASK_WRONG", row_id=row.row_id,
            )  # fmt: skip
        if not found:
            return


@torch.no_grad()  # type: ignore[untyped-decorator]
def check_isolation(learner: Learner, items: Sequence[tuple[int, Item]], pad: int) -> float:
    """Difference between the losses of packed examples and of the same examples alone, in nats.

    Raises FailedPrecondition (PACKING_LEAKS) when the model looks across the borders.
    """
    packed = collate(items, pad, learner.machine.device)
    alone = [(at, Item(s.row_id, (s,))) for at, item in items for s in item.sequences]
    learner.model.eval()
    together, apart = learner.losses(packed), learner.losses(collate(alone, pad, learner.machine.device))
    learner.model.train()
    gap = float((together - apart).abs().max())
    if not gap <= _TOLERANCE[learner.machine.dtype] * max(1.0, float(apart.abs().max())):
        raise FailedPrecondition(
            f"examples packed into one sequence see each other in this architecture (their losses differ by {gap:.3g} "
            "nats from those of the same examples alone): set recipe.packing to false",
            reason="PACKING_LEAKS", field="recipe.packing",
        )  # fmt: skip
    return gap


def show(item: Item, language: Language) -> list[MaskedRow]:
    """The sequences of an item as text, trained and untrained parts apart, special tokens visible."""
    shown = []
    for sequence in item.sequences:
        marked = zip(sequence.tokens, sequence.trained, strict=True)
        parts = [
            (_shortened(decode(language.tokenizer, [token for token, _ in part])), on)
            for on, part in groupby(marked, key=lambda pair: pair[1])
        ]
        ends = sequence.trained[-1] and sequence.tokens[-1] in language.stops
        shown.append(MaskedRow(row_id=sequence.row_id, parts=tuple(parts), stop_trained=ends))
    return shown


def trained_ids(sequence: Example) -> list[int]:
    """Ids of the trained tokens."""
    return [token for token, on in zip(sequence.tokens, sequence.trained, strict=True) if on]


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """Text of ids, special tokens included."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False))


def _wrong(sequence: Example, stops: frozenset[int]) -> str:
    stretches = [on for on, _ in groupby(sequence.trained)]
    if True not in stretches:
        return "no token of it is trained"
    if all(sequence.trained):
        return "every token of it is trained, the question too"
    if stretches.count(True) > 1:
        return "more than one stretch of it is trained"
    last = max(at for at, on in enumerate(sequence.trained) if on)
    return "" if sequence.tokens[last] in stops else "the token that ends the answer is not trained"


def _shortened(text: str) -> str:
    left_out = len(text) - _SHOWN_CHARACTERS
    half = _SHOWN_CHARACTERS // 2
    return text if left_out <= 0 else f"{text[:half]} [{left_out} characters not shown] {text[-half:]}"


def _squash(text: str) -> str:
    return "".join(text.split())


def _through(tokenizer: Any, text: str) -> str:
    """The text as the tokenizer gives it back: some normalise what they read."""
    return _squash(decode(tokenizer, tokenizer(text, add_special_tokens=False)["input_ids"]))
