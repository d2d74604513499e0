"""What serving says of every inference it answered, and what ingestion says of how it turned out."""

import json
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from libs.contracts.envelope import Event


class Role(StrEnum):
    """The role a model version plays in a task's route."""

    STABLE = "stable"
    CANARY = "canary"
    SHADOW = "shadow"
    PREVIOUS = "previous"
    CANDIDATE = "candidate"


class ToolCall(BaseModel):
    """A call that a model asks for; `arguments` is a JSON object as text."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    arguments: str


class Message(BaseModel):
    """One chat message; `tool_calls` are an assistant's, `tool_call_id` is a tool's and names the call it answers."""

    model_config = ConfigDict(frozen=True)

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""

    @model_serializer(mode="wrap")
    def _without_what_is_not_said(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Digests are made of messages: one without tools reads as it did before there were any.
        held: dict[str, Any] = write(self)
        return {name: value for name, value in held.items() if value or name in ("role", "content")}


class Provenance(BaseModel):
    """Digests of everything that produced an answer; `adapter_digest` is empty for the bare base."""

    model_config = ConfigDict(frozen=True)

    base_digest: str
    adapter_digest: str = ""
    tokenizer_digest: str = ""
    template_digest: str = ""


class Inference(Event):
    """One inference answered (or failed). `pair_id` of a shadow answer is the request it mirrors. Latency in ms."""

    subject: ClassVar[str] = "inference.{tenant}.{task}"

    request_id: str
    pair_id: str | None = None
    generation: int
    version: int
    role: Role
    explicit: bool = Field(False, description="the client asked for this very version")
    unit: str = Field(description="the user unit that assignment is sticky on")
    segment: str | None = None
    assignment_probability: float = Field(ge=0.0, le=1.0)
    messages: tuple[Message, ...]
    output: str = ""
    tools: str = Field("", description="the tools offered, a JSON list in OpenAI's form")
    tool_calls: tuple[ToolCall, ...] = ()
    rule: str = Field("", description="the routing rule that chose task or version, if one did")
    key: str = Field("", description="name of the API key that asked, for showback")
    finish_reason: str = ""
    error: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_ms: float = 0.0
    first_token_ms: float = 0.0
    provenance: Provenance
    created_at: datetime

    @field_validator("tools")
    @classmethod
    def _is_a_list_of_tools(cls, text: str) -> str:
        held = json.loads(text) if text else []
        if not isinstance(held, list) or not all(isinstance(each, dict) for each in held):
            raise ValueError("must be the JSON of a list of objects")
        return text


class Signal(StrEnum):
    """What a joined outcome says of the answer."""

    GOOD = "good"
    BAD = "bad"
    NEUTRAL = "neutral"


class Outcome(Event):
    """Feedback joined to its inference, without text.

    `reference_digest` is `answers.answer_digest` of the right answer, where the feedback gives one, so that
    any answer to the same request (a shadow's too) can be scored without carrying text.
    """

    subject: ClassVar[str] = "outcome.{tenant}.{task}"

    feedback_id: str
    source: str
    kind: str
    signal: Signal
    request_id: str
    version: int
    role: Role
    generation: int
    unit: str
    segment: str | None = None
    category: str | None = None
    reference_digest: str | None = None
    answered_at: datetime
    created_at: datetime
