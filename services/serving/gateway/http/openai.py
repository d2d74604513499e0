"""OpenAI's chat API: what of it is understood, what is refused by name, and how answers look."""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from libs.contracts.errors import InvalidInput
from libs.contracts.inference import Message, Provenance, Role
from libs.contracts.routes import Arm, Route
from libs.contracts.subjects import version_name
from libs.telemetry import trace_id, valid_traceparent
from services.serving.gateway.domain import Chunk, Generation, Purpose, Query, SamplingWish, Usage

# Each of these changes what an answer means, so it is refused rather than ignored; with the values that are harmless.
_UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "audio": (),
    "prediction": (),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
}
_FINISH = {"stop": "stop", "length": "length"}


class _Part(BaseModel):
    type: str
    text: str = ""


class _Message(BaseModel):
    role: str
    content: str | list[_Part]


class _StreamOptions(BaseModel):
    include_usage: bool = False


class ChatRequest(BaseModel):
    """The body of `/v1/chat/completions`."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[_Message]
    stream: bool = False
    stream_options: _StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = Field(None)

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def query(self, *, request_id: str, user: str, segment: str, purpose: Purpose) -> Query:
        """The request in the gateway's terms; `user` and `segment` are the headers' and lose to the body's."""
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Query(
            model=self.model,
            messages=tuple(_message(each, number) for number, each in enumerate(self.messages)),
            request_id=request_id,
            sampling=SamplingWish(
                self.temperature, self.top_p, self.max_completion_tokens or self.max_tokens, self.seed, stops
            ),
            user=self.user or self.safety_identifier or user,
            segment=(self.metadata or {}).get("segment", "") or segment,
            purpose=purpose,
        )


def parse_chat(body: bytes) -> ChatRequest:
    """Read a body. Raises InvalidInput naming the field that is wrong or asks for what is not there."""
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as failure:
        first = failure.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"] if part not in ("str", "list[_Part]"))
        raise InvalidInput(str(first["msg"]), field=place or None) from failure
    for name, value in (request.model_extra or {}).items():
        if name in _UNSUPPORTED and value is not None and value not in _UNSUPPORTED[name]:
            raise InvalidInput("is not supported", reason="UNSUPPORTED_PARAMETER", field=name)
    return request


def completion(generation: Generation, chunk: Chunk, created: int) -> dict[str, Any]:
    """A `chat.completion`."""
    return {
        **_frame("chat.completion", generation, chunk, created),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": chunk.text, "refusal": None},
                "finish_reason": _FINISH.get(chunk.finish_reason, "stop"),
                "logprobs": None,
            }
        ],
        "usage": _usage(chunk.usage or Usage()),
    }


def stream_chunk(
    generation: Generation, chunk: Chunk, created: int, *, first: bool, wants_usage: bool
) -> dict[str, Any]:
    """One `chat.completion.chunk`; the first one has the role."""
    delta: dict[str, str] = {"role": "assistant", "content": chunk.text} if first else {"content": chunk.text}
    choice = {
        "index": 0,
        "delta": delta,
        "finish_reason": _FINISH.get(chunk.finish_reason, "stop") if chunk.finish_reason else None,
        "logprobs": None,
    }
    frame = {**_frame("chat.completion.chunk", generation, chunk, created), "choices": [choice]}
    if not first and not chunk.finish_reason:
        del frame["pawl"]  # said at both ends of a stream, not with every token
    return {**frame, "usage": None} if wants_usage else frame


def usage_chunk(generation: Generation, chunk: Chunk, created: int) -> dict[str, Any]:
    """The chunk after the last, where usage was asked for."""
    return {
        **_frame("chat.completion.chunk", generation, chunk, created),
        "choices": [],
        "usage": _usage(chunk.usage or Usage()),
    }


def provenance_of(generation: Generation, provenance: Provenance) -> dict[str, Any]:
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
        "turn_traceparent": turn,
        "turn_trace_id": trace_id(turn) if valid_traceparent(turn) else "",
    }


def model_card(route: Route, arm: Arm | None) -> dict[str, Any]:
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


def sse(payload: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def fingerprint(provenance: Provenance) -> str:
    """`system_fingerprint`: the first digits of the digest that names the version."""
    digest = provenance.adapter_digest or provenance.base_digest
    return f"fp_{digest.removeprefix('sha256:')[:16]}"


def _frame(kind: str, generation: Generation, chunk: Chunk, created: int) -> dict[str, Any]:
    return {
        "id": generation.request_id,
        "object": kind,
        "created": created,
        "model": generation.version,
        "system_fingerprint": fingerprint(chunk.provenance),
        "pawl": provenance_of(generation, chunk.provenance),
    }


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _message(given: _Message, number: int) -> Message:
    if isinstance(given.content, str):
        text = given.content
    else:
        for place, part in enumerate(given.content):
            if part.type != "text":
                raise InvalidInput(
                    f"{part.type!r} is not supported, only text is",
                    reason="UNSUPPORTED_PARAMETER",
                    field=f"messages.{number}.content.{place}",
                )
        text = "".join(part.text for part in given.content)
    return Message(role="system" if given.role == "developer" else given.role, content=text)
