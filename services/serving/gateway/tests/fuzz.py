"""Requests as nobody sane would send them, the same again for the same seed."""

import json
import random
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

from libs.contracts.stubs.pawl.serving.v1 import feedback_pb2, inference_pb2, operations_pb2

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
            rng.choice(_HEADERS),
        )


def calls(seed: int, number: int, task: str) -> Iterator[tuple[str, str, Message]]:
    """Service, method and request of `number` gRPC calls; every method of the gateway's services comes up."""
    rng = random.Random(seed)
    for _ in range(number):
        generate = _generate(rng, task)
        yield rng.choice(
            (
                ("InferenceService", "Generate", generate),
                ("InferenceService", "Generate", generate),
                ("InferenceService", "GenerateStream", inference_pb2.GenerateStreamRequest(request=generate)),
                (
                    "InferenceService",
                    "ExplainRoute",
                    inference_pb2.ExplainRouteRequest(
                        model=generate.model,
                        user=generate.user,
                        segment=generate.segment,
                        facts={rng.choice(("", "domain", "x" * 999)): rng.choice(("", "\x00", "y" * 999))},
                    ),
                ),
                ("InferenceService", "ListModels", inference_pb2.ListModelsRequest()),
                (
                    "FeedbackService",
                    "PublishFeedback",
                    feedback_pb2.PublishFeedbackRequest(
                        task=generate.model,
                        events_json=[json.dumps(_value(rng, 0)), "{", ""][: rng.randint(0, 3)],
                    ),
                ),
                (
                    "OperationsService",
                    "ReportUsage",
                    operations_pb2.ReportUsageRequest(
                        since=rng.choice(("", "x", "2026-13-01", "2026-01-01", "0" * 999))
                    ),
                ),
                ("OperationsService", "DescribeFleet", operations_pb2.DescribeFleetRequest()),
            )
        )


def _generate(rng: random.Random, task: str) -> inference_pb2.GenerateRequest:
    return inference_pb2.GenerateRequest(
        model=rng.choice((task, task, "", "auto", "@", "x" * 5000, f"{task}@0", f"{task}@99")),
        messages=[
            inference_pb2.Message(
                role=rng.choice(("user", "user", "tool", "", "system")),
                content=rng.choice(("", "hi", "\x00", "y" * 2000)),
                tool_calls=[inference_pb2.ToolCall(name="a", arguments=rng.choice(("", "{", "[]", "{}")))]
                * rng.choice((0, 0, 1)),
            )
        ]
        * rng.choice((0, 1, 1, 2, 200)),
        sampling=inference_pb2.Sampling(
            temperature=rng.choice((0.0, 0.0, 1.0, -1.0, float("nan"), float("inf"))),
            max_tokens=rng.choice((0, 1, 1, 2**32 - 1)),
            n=rng.choice((0, 0, 1, 2, 2**31)),
            stop=rng.choice(([], [], [""], ["a"] * 9)),
            seed=rng.choice((0, 2**64 - 1)),
            logit_bias={rng.choice((1, 2**32 - 1)): rng.choice((1.0, float("nan")))} if rng.random() < 0.2 else {},
        ),
        user=rng.choice(("", "ann", "\n", "u" * 999)),
        segment=rng.choice(("", "", "s" * 999)),
        request_id=rng.choice(("", "", "r", "\x00")),
        form=inference_pb2.Form(
            json_schema=rng.choice(("", "", "", "{", "[]", '{"type":"x"}')),
            tools_json=rng.choice(("", "", "", "x", "[]")),
            tool_choice=rng.choice(("", "", "required", "nobody")),
        ),
        prompt=rng.choice(("", "", "", "go on")),
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
