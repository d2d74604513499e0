"""What a trained model says to fixed prompts, and whether a model that is served or exported says the same."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

PARITY_FILE = "parity.json"
BOUND = 0.1
"""Nats per token, on the mean, between the trainer's log-probabilities and those of who serves, rounding to bf16."""
QUANTISED_BOUND = 0.4
"""The same where one of the two holds the base in four bits."""
_SINGLE = 4.0


class ParityItem(BaseModel):
    """A prompt, its token ids, and the greedy answer's, with their log-probabilities (nats), adapter on and off."""

    model_config = ConfigDict(frozen=True)

    messages: tuple[dict[str, str], ...]
    prompt_token_ids: tuple[int, ...]
    completion_token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    base_logprobs: tuple[float, ...] | None = None


class Parity(BaseModel):
    """What travels with a version as `parity.json`; `precision` is that of the trainer's computation."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1]
    precision: str
    items: tuple[ParityItem, ...] = Field(min_length=1)

    @property
    def bound(self) -> float:
        """Nats per token that the two may be apart on the mean; one token may be four times as far."""
        return QUANTISED_BOUND if self.precision == "nf4" else BOUND


@dataclass(frozen=True, slots=True)
class Said:
    """What the model under test made of a prompt: its token ids, the greedy answer's, their log-probabilities."""

    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """One token that both gave: who said how likely it is."""

    trained: float
    found: float
    base: float | None


def mismatch(parity: Parity, said: Sequence[Said], bound: float | None = None) -> str:
    """Why the model that said this is not the one that was trained, naming the first token that differs; "" if it is.

    Prompts have to be the same ids. Answers have to be, too, up to a token that both models find about as likely as the
    other's: from there on they may go their own ways. Where both go the same way, their log-probabilities are at most
    `bound` nats apart (default: the record's), and nearer to the trained model's than to its base's.
    """
    allowed = parity.bound if bound is None else bound
    steps: list[_Step] = []
    for number, (item, one) in enumerate(zip(parity.items, said, strict=True), start=1):
        told = f"prompt {number} ({item.messages[-1]['content'][:40]!r})"
        unlike = _first_unlike(item.prompt_token_ids, one.prompt_token_ids)
        if unlike is not None:
            return f"{told} is other tokens: {_told(item.prompt_token_ids, one.prompt_token_ids, unlike)}"
        at = _first_unlike(item.completion_token_ids, one.token_ids)
        if at is not None and not _near_tie(item, one, at, _SINGLE * allowed):
            return f"{told} is answered otherwise: {_told(item.completion_token_ids, one.token_ids, at)}"
        steps.extend(_steps(item, one, at))
    return _apart(steps, allowed)


def _apart(steps: Sequence[_Step], allowed: float) -> str:
    if not steps:
        return "no answer begins with the token that the trained model begins it with"
    worst = max(abs(step.trained - step.found) for step in steps)
    mean = sum(abs(step.trained - step.found) for step in steps) / len(steps)
    known = [(step, step.base) for step in steps if step.base is not None]
    if sum(abs(step.found - base) for step, base in known) < sum(abs(step.found - step.trained) for step, _ in known):
        return "it answers as the base does, without what was trained: the adapter is not in use"
    if mean > allowed or worst > _SINGLE * allowed:
        return (
            f"log-probabilities are {mean:.3f} nats apart on the mean and {worst:.3f} at most; {allowed:g} and "
            f"{_SINGLE * allowed:g} are allowed"
        )
    return ""


def _steps(item: ParityItem, one: Said, end: int | None) -> Iterator[_Step]:
    for at, (trained, found) in enumerate(zip(item.logprobs[:end], one.logprobs[:end], strict=False)):
        yield _Step(trained, found, item.base_logprobs[at] if item.base_logprobs is not None else None)


def _first_unlike(one: Sequence[int], two: Sequence[int]) -> int | None:
    if tuple(one) == tuple(two):
        return None
    pairs = zip(one, two, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(two)))


def _near_tie(item: ParityItem, one: Said, at: int, room: float) -> bool:
    if at >= len(item.logprobs) or at >= len(one.logprobs):
        return False
    return abs(item.logprobs[at] - one.logprobs[at]) <= room


def _told(expected: Sequence[int], found: Sequence[int], at: int) -> str:
    names = [str(ids[at]) if at < len(ids) else "missing" for ids in (found, expected)]
    return f"token {at + 1} is {names[0]}, and {names[1]} where it was trained"
