"""One generation: what is asked of a model, and the pieces in which the answer comes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SamplingChoice:
    """How to sample; temperature 0 is greedy. `max_tokens` is what the caller wants at most."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 256
    seed: int | None = None
    stop: tuple[str, ...] = ()
    whole: bool = False
    """One piece for the whole answer."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt: token ids, shape (tokens,)."""

    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer. `finish_reason` is empty until the last one; one natural log-probability per token."""

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish_reason: str = ""
    adapter_name: str = ""
    """Name of the adapter that vLLM says produced it; empty for the bare base."""


@dataclass(slots=True)
class Answer:
    """What has come of an answer so far."""

    completion_tokens: int = 0
    token_ids: list[int] | None = None
    logprobs: list[float] | None = None

    def take(self, piece: Piece) -> None:
        """Count a piece in."""
        self.completion_tokens += len(piece.token_ids)
        if self.token_ids is not None:
            self.token_ids.extend(piece.token_ids)
        if self.logprobs is not None:
            self.logprobs.extend(piece.logprobs)
