"""OpenAI's answers: whole, as chunks of a stream, and the cards of models."""

import struct
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from libs.contracts.inference import Provenance, Role
from libs.contracts.routes import Arm, Route
from libs.contracts.subjects import version_name
from libs.telemetry import trace_id, valid_traceparent
from services.serving.gateway.domain import Chunk, Embedded, Generation, TokenLogprob, Usage
from services.serving.gateway.http.exchange import encoded

Body = dict[str, Any]


class ChatShape:
    """`chat.completion` and its chunks."""

    whole_kind, chunk_kind = "chat.completion", "chat.completion.chunk"

    def choice(self, chunk: Chunk) -> Body:
        """One answer, whole."""
        message: Body = {
            "role": "assistant",
            "content": chunk.text or (None if chunk.tool_calls else ""),
            "refusal": None,
        }
        if chunk.tool_calls:
            message["tool_calls"] = _calls(chunk, indexed=False)
        return {
            "index": chunk.index,
            "message": message,
            "finish_reason": chunk.finish_reason or "stop",
            "logprobs": _chat_logprobs(chunk),
        }

    def delta(self, chunk: Chunk, *, first: bool) -> Body:
        """A piece of one answer; its first has the role."""
        delta: Body = {"role": "assistant", "content": chunk.text} if first else {"content": chunk.text}
        if chunk.tool_calls:
            delta["tool_calls"] = _calls(chunk, indexed=True)
        return {
            "index": chunk.index,
            "delta": delta,
            "finish_reason": chunk.finish_reason or None,
            "logprobs": _chat_logprobs(chunk),
        }


class TextShape:
    """`text_completion`, whole and in pieces."""

    whole_kind = chunk_kind = "text_completion"

    def choice(self, chunk: Chunk) -> Body:
        """One answer, whole."""
        return {**self.delta(chunk, first=True), "finish_reason": chunk.finish_reason or "stop"}

    def delta(self, chunk: Chunk, *, first: bool) -> Body:  # noqa: ARG002 - every piece looks alike
        """A piece of one answer."""
        return {
            "index": chunk.index,
            "text": chunk.text,
            "finish_reason": chunk.finish_reason or None,
            "logprobs": _text_logprobs(chunk),
        }


Shape = ChatShape | TextShape


def completion(shape: Shape, generation: Generation, chunk: Chunk, created: int) -> Body:
    """The whole response."""
    return {
        **_frame(shape.whole_kind, generation, chunk, created),
        "pawl": provenance_of(generation, chunk.provenance),
        "choices": [shape.choice(each) for each in (chunk, *chunk.others)],
        "usage": _usage(chunk.usage or Usage()),
    }


def stream_chunk(
    shape: Shape, generation: Generation, chunk: Chunk, created: int, *, first: bool, wants_usage: bool
) -> Body:
    """One event of a stream; `first` is the first of its answer."""
    frame = _frame(shape.chunk_kind, generation, chunk, created)
    frame["choices"] = [shape.delta(chunk, first=first)]
    if first or chunk.finish_reason:
        frame["pawl"] = provenance_of(generation, chunk.provenance)  # at both ends, not with every token
    return {**frame, "usage": None} if wants_usage else frame


def usage_chunk(shape: Shape, generation: Generation, chunk: Chunk, created: int) -> Body:
    """The chunk after the last, where usage was asked for."""
    frame = _frame(shape.chunk_kind, generation, chunk, created)
    proof = provenance_of(generation, chunk.provenance)
    return {**frame, "pawl": proof, "choices": [], "usage": _usage(chunk.usage or Usage())}


def embeddings(generation: Generation, found: Embedded, *, base64: bool) -> Body:
    """Vectors as numbers or, as OpenAI's own client asks for them, as base64 of 32-bit floats (little endian)."""
    usage = {"prompt_tokens": found.prompt_tokens, "total_tokens": found.prompt_tokens}
    return {
        "object": "list",
        "model": generation.version,
        "data": [
            {"object": "embedding", "index": number, "embedding": _packed(vector) if base64 else list(vector)}
            for number, vector in enumerate(found.vectors)
        ],
        "usage": usage,
        "pawl": provenance_of(generation, found.provenance),
    }


def _packed(vector: Sequence[float]) -> str:
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def provenance_of(generation: Generation, provenance: Provenance) -> Body:
    """What produced an answer: the extra field `pawl` of every body."""
    turn = generation.turn_traceparent
    return {
        "model_version": generation.version,
        "request_id": generation.request_id,
        "base_digest": provenance.base_digest,
        "adapter_digest": provenance.adapter_digest,
        "tokenizer_digest": provenance.tokenizer_digest,
        "template_digest": provenance.template_digest,
        "route_generation": generation.route_generation,
        "rule": generation.rule,
        "turn_traceparent": turn,
        "turn_trace_id": trace_id(turn) if valid_traceparent(turn) else "",
    }


def model_card(route: Route, arm: Arm | None) -> Body:
    """An entry of `/v1/models`: the task itself (None: what a client gets by its name) or one version of it."""
    shown = arm or route.arm(Role.STABLE)
    return {
        "id": route.task if arm is None else version_name(route.task, arm.version),
        "object": "model",
        "created": 0,
        "owned_by": route.tenant,
        "pawl": {
            "task": route.task,
            "version": shown.version if shown else None,
            "role": shown.role.value if shown else None,
            "share": shown.share if shown else 0.0,
            "digest": shown.digest if shown else "",
            "base_digest": shown.base_digest if shown else "",
            "route_generation": route.generation,
        },
    }


def sse(payload: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + encoded(payload) + b"\n\n"


def fingerprint(provenance: Provenance) -> str:
    """`system_fingerprint`: the first digits of the digest that names the version."""
    digest = provenance.adapter_digest or provenance.base_digest
    return f"fp_{digest.removeprefix('sha256:')[:16]}"


def _frame(kind: str, generation: Generation, chunk: Chunk, created: int) -> Body:
    return {
        "id": generation.request_id,
        "object": kind,
        "created": created,
        "model": generation.version,
        "system_fingerprint": fingerprint(chunk.provenance),
    }


def _usage(usage: Usage) -> Body:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _calls(chunk: Chunk, *, indexed: bool) -> list[Body]:
    return [
        {
            **({"index": number} if indexed else {}),
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for number, call in enumerate(chunk.tool_calls)
    ]


def _chat_logprobs(chunk: Chunk) -> Body | None:
    if not chunk.logprobs:
        return None
    return {
        "content": [
            {**_entry(each.token, each.logprob), "top_logprobs": [_entry(token, value) for token, value in each.top]}
            for each in chunk.logprobs
        ],
        "refusal": None,
    }


def _entry(token: str, logprob: float) -> Body:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


def _text_logprobs(chunk: Chunk) -> Body | None:
    if not chunk.logprobs:
        return None
    offsets, at = [], 0
    for each in chunk.logprobs:
        offsets.append(at)
        at += len(each.token)
    return {
        "tokens": [each.token for each in chunk.logprobs],
        "token_logprobs": [each.logprob for each in chunk.logprobs],
        "top_logprobs": [_tops(each) for each in chunk.logprobs],
        "text_offset": offsets,
    }


def _tops(each: TokenLogprob) -> dict[str, float]:
    return dict(each.top)
