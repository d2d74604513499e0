"""One generation: what is asked of a model, and the pieces in which the answer comes."""

from collections.abc import Mapping
from dataclasses import dataclass, field


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
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    n: int = 1
    top_logprobs: int | None = None
    """So many likeliest tokens in each place beside the one taken; None: no log-probabilities."""
    json_schema: str = ""
    json_object: bool = False

    @property
    def suspect(self) -> str:
        """The field that is most likely wrong where a request is refused and none is named."""
        if self.json_schema or self.json_object:
            return "response_format"
        return "logit_bias" if self.logit_bias else "sampling"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt: token ids, shape (tokens,). Prompts of different salts share no cached prefix."""

    token_ids: tuple[int, ...]
    salt: str = ""


@dataclass(frozen=True, slots=True)
class TokenChance:
    """A token's text and log-probability, with those of the likeliest tokens in its place."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer. `finish_reason` is empty until the last one; one natural log-probability per token.

    Of several answers, `index` says which; `last` is true of the last piece of them all.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish_reason: str = ""
    adapter_name: str = ""
    """Name of the adapter that vLLM says produced it; empty for the bare base."""
    index: int = 0
    last: bool = True
    chances: tuple[TokenChance, ...] = ()
    engine_seconds: float = 0.0
    """The request's part of the engine's busy time so far."""
    cached_tokens: int = 0
    """Tokens of the prompt that were in the prefix cache, where that is known."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """One vector for each of several prompts, in their order; shape (prompts, dimensions)."""

    values: tuple[tuple[float, ...], ...]
    engine_seconds: float = 0.0


@dataclass(slots=True)
class Answer:
    """What has come of an answer so far."""

    completion_tokens: int = 0
    token_ids: list[int] | None = None
    logprobs: list[float] | None = None

    def take(self, piece: Piece) -> None:
        """Count a piece in."""
        self.completion_tokens += len(piece.token_ids)
        if self.token_ids is not None and piece.index == 0:
            self.token_ids.extend(piece.token_ids)
        if self.logprobs is not None and piece.index == 0:
            self.logprobs.extend(piece.logprobs)
