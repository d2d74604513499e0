"""vLLM's `/v1/completions` by token ids: what is sent, and what its events say."""

from collections.abc import Mapping
from typing import Any

from libs.contracts.errors import Unavailable
from services.serving.engine.domain import Piece, Prompt, SamplingChoice, TokenChance


def body_of(prompt: Prompt, choice: SamplingChoice, room: int, *, with_logprobs: bool) -> dict[str, Any]:
    """The request without the model's name; `room` is the number of tokens that an answer can have."""
    body: dict[str, Any] = {
        "prompt": list(prompt.token_ids),
        "stream": not choice.whole,
        "return_token_ids": True,
        "cache_salt": prompt.salt or None,
        "temperature": choice.temperature,
        "top_p": choice.top_p,
        # Said, or the base's own file of defaults would decide it there, and not in an engine of ours.
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "max_tokens": max(1, min(choice.max_tokens, room)),
        "seed": choice.seed,
        "stop": list(choice.stop) or None,
        "presence_penalty": choice.presence_penalty,
        "frequency_penalty": choice.frequency_penalty,
        "logit_bias": {str(token): bias for token, bias in choice.logit_bias.items()} or None,
        "n": choice.n,
        "logprobs": choice.top_logprobs if choice.top_logprobs is not None else 0 if with_logprobs else None,
    }
    if choice.json_schema:
        body["structured_outputs"] = {"json": choice.json_schema}
    elif choice.json_object:
        body["structured_outputs"] = {"json_object": True}
    return {name: value for name, value in body.items() if value is not None}


def pieces_of(event: Mapping[str, Any], choice: SamplingChoice, base: str, *, with_logprobs: bool) -> list[Piece]:
    """The pieces in one event or in a whole response; `base` is the server's name of the bare base."""
    name = str(event["model"])
    return [_piece(each, choice, "" if name == base else name, with_logprobs) for each in event["choices"]]


def _piece(told: Mapping[str, Any], choice: SamplingChoice, name: str, with_logprobs: bool) -> Piece:
    ids = told.get("token_ids")
    if ids is None:
        raise Unavailable("the server returns no token ids: it is no vLLM, or too old", reason="GENERATION_FAILED")
    held = told.get("logprobs") or {}
    values = tuple(float(each) for each in held.get("token_logprobs") or ())
    chances: tuple[TokenChance, ...] = ()
    if choice.top_logprobs is not None:
        places = zip(held.get("tokens") or (), values, held.get("top_logprobs") or (), strict=True)
        chances = tuple(TokenChance(text, value, _top(text, value, top, choice)) for text, value, top in places)
    return Piece(
        told.get("text") or "",
        tuple(int(each) for each in ids),
        values if with_logprobs else (),
        told.get("finish_reason") or "",
        name,
        int(told.get("index", 0)),
        chances=chances,
    )


def _top(
    text: str, value: float, place: Mapping[str, float] | None, choice: SamplingChoice
) -> tuple[tuple[str, float], ...]:
    """The likeliest tokens of a place; that API names them by text, and of texts that look alike it keeps any one."""
    held = {**(place or {})}
    held[text] = max(held.get(text, value), value)
    likeliest = sorted(held.items(), key=lambda each: -each[1])[: choice.top_logprobs]
    return tuple((text, float(value)) for text, value in likeliest)
