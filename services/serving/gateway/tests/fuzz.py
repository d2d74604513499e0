"""Requests as nobody sane would send them, the same again for the same seed."""

import json
import random
from collections.abc import Iterator
from typing import Any

_ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3, 1e308, -0.5, 2**70, "", "x", "\x00", "💥" * 3, "a" * 3000, [], {}, [None], [[[[]]]],
    {"type": "function"}, {"": {}}, "\ud800", "auto", "none", "required", ["a", 1], [{"role": "user"}],
)  # fmt: skip
_FIELDS = (
    "model", "messages", "prompt", "stream", "stream_options", "temperature", "top_p", "max_tokens", "n", "seed",
    "stop", "presence_penalty", "frequency_penalty", "logit_bias", "user", "metadata", "logprobs", "top_logprobs",
    "tools", "tool_choice", "parallel_tool_calls", "response_format", "input", "functions", "echo", "best_of",
    "whatever",
)  # fmt: skip
_HEADERS: tuple[dict[str, str], ...] = (
    {}, {}, {"x-pawl-purpose": "evaluation"}, {"x-pawl-user": "x" * 900}, {"x-pawl-timeout": "nan"},
)  # fmt: skip
_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/feedback", "/v1/route", "/v1/models")


def cases(seed: int, number: int, task: str) -> Iterator[tuple[str, str, bytes, dict[str, str]]]:
    """Method, path, body and headers of `number` requests."""
    rng = random.Random(seed)
    for _ in range(number):
        path = rng.choice(_PATHS)
        yield (
            "GET" if path in ("/v1/route", "/v1/models") else rng.choice(("POST", "POST", "POST", "PUT")),
            path + rng.choice(("", "", "", "?task=" + task, "?model=%00", "/" + task, "/%ff")),
            _body(rng, task),
            rng.choice(
                ({}, {}, {"x-pawl-purpose": "evaluation"}, {"x-pawl-user": "x" * 900}, {"x-pawl-timeout": "nan"})
            ),
        )


def _body(rng: random.Random, task: str) -> bytes:
    held: dict[str, Any] = {
        "model": task,
        "messages": [{"role": "user", "content": "hi"}],
        "prompt": "hi",
        "input": "hi",
        "max_tokens": 1,
    }
    for _ in range(rng.randint(1, 3)):
        held[rng.choice(_FIELDS)] = _value(rng, 0)
    data = json.dumps(held).encode()
    if rng.random() < 0.1:
        cut = rng.randrange(len(data))
        data = data[:cut] + rng.randbytes(rng.randint(0, 4)) + data[cut + rng.randint(0, 3) :]
    return data


def _value(rng: random.Random, depth: int) -> Any:
    if depth < 3 and rng.random() < 0.35:
        if rng.random() < 0.5:
            return [_value(rng, depth + 1) for _ in range(rng.randint(0, 3))]
        names = ("role", "content", "type", "function", "name", "json_schema", "schema", "include_usage", "7", "id")
        return {rng.choice(names): _value(rng, depth + 1) for _ in range(rng.randint(0, 3))}
    return rng.choice(_ODD)
