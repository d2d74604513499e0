"""OpenAI's requests: what of them is understood, and what is refused by name."""

import json
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from libs.contracts.errors import InvalidInput
from libs.contracts.inference import Message, ToolCall
from services.serving.gateway.domain import Form, Purpose, Query, SamplingWish

# Each of these changes what an answer means, so it is refused rather than ignored; with the values that are harmless.
_UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "best_of": (1,),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "audio": (),
    "prediction": (),
    "modalities": (["text"],),
    "echo": (False,),
    "suffix": ("",),
}

B = TypeVar("B", bound="_Request")


class _Part(BaseModel):
    type: str
    text: str = ""


class _Function(BaseModel):
    name: str = Field(min_length=1, max_length=64)
    arguments: str = ""


class _ToolCall(BaseModel):
    id: str = Field(max_length=200)
    type: Literal["function"] = "function"
    function: _Function


class _Message(BaseModel):
    role: str
    content: str | list[_Part] | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = Field(None, max_length=200)


class _StreamOptions(BaseModel):
    include_usage: bool = False


class _Chosen(BaseModel):
    name: str


class _NamedTool(BaseModel):
    type: Literal["function"]
    function: _Chosen


class _Schema(BaseModel):
    name: str = ""
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")
    strict: bool | None = None


class _ResponseFormat(BaseModel):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None


class _Request(BaseModel):
    """What both ways of asking share."""

    model_config = ConfigDict(extra="allow")

    model: str
    stream: bool = False
    stream_options: _StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    n: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def _wish(self, max_tokens: int | None, top_logprobs: int | None) -> SamplingWish:
        return SamplingWish(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=max_tokens,
            seed=self.seed,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=self.logit_bias or {},
            n=1 if self.n is None else self.n,
            logprobs=top_logprobs is not None,
            top_logprobs=top_logprobs or 0,
        )

    def _facts(self, headers: Mapping[str, str]) -> dict[str, str]:
        said = self.metadata or {}
        facts = {name: value for name, value in headers.items() if name not in ("authorization", "cookie")}
        for name in ("task_type", "domain"):
            value = said.get(name) or headers.get(f"x-pawl-{name.replace('_', '-')}", "")
            if value:
                facts[name] = value
        return facts

    def _query(
        self, headers: Mapping[str, str], request_id: str, purpose: Purpose, user: str | None, **more: Any
    ) -> Query:
        return Query(
            model=self.model,
            request_id=request_id,
            user=user or headers.get("x-pawl-user", ""),
            segment=(self.metadata or {}).get("segment", "") or headers.get("x-pawl-segment", ""),
            purpose=purpose,
            facts=self._facts(headers),
            **more,
        )


class ChatRequest(_Request):
    """The body of `/v1/chat/completions`."""

    messages: list[_Message]
    max_completion_tokens: int | None = None
    safety_identifier: str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["none", "auto", "required"] | _NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: _ResponseFormat | None = None

    def query(self, headers: Mapping[str, str], request_id: str, purpose: Purpose) -> Query:
        """The request in the gateway's terms; what headers say of user and segment loses to the body."""
        if self.top_logprobs and not self.logprobs:
            raise InvalidInput("needs logprobs to be true", field="top_logprobs")
        top = (self.top_logprobs or 0) if self.logprobs else None
        return self._query(
            headers,
            request_id,
            purpose,
            self.user or self.safety_identifier,
            messages=tuple(_message(each, number) for number, each in enumerate(self.messages)),
            sampling=self._wish(
                self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens, top
            ),
            form=self._form(),
        )

    def _form(self) -> Form:
        wanted, choice = self.response_format, self.tool_choice
        schema = ""
        if wanted is not None and wanted.type == "json_schema":
            if wanted.json_schema is None:
                raise InvalidInput("must hold the schema", field="response_format.json_schema")
            schema = json.dumps(wanted.json_schema.schema_)
        return Form(
            json_schema=schema,
            json_object=wanted is not None and wanted.type == "json_object",
            tools=json.dumps(self.tools, ensure_ascii=False, sort_keys=True) if self.tools else "",
            tool_choice=choice.function.name if isinstance(choice, _NamedTool) else choice or "auto",
            single_call=self.parallel_tool_calls is False,
        )


class CompletionRequest(_Request):
    """The body of `/v1/completions`: one text, continued as it stands."""

    prompt: str | list[str] | list[int] | list[list[int]]
    logprobs: int | None = None

    def query(self, headers: Mapping[str, str], request_id: str, purpose: Purpose) -> Query:
        """The request in the gateway's terms."""
        prompt = self.prompt[0] if isinstance(self.prompt, list) and len(self.prompt) == 1 else self.prompt
        if not isinstance(prompt, str) or not prompt:
            raise InvalidInput(
                "must be one text: token ids are the engine's business, and each prompt is a request of its own",
                reason="UNSUPPORTED_PARAMETER",
                field="prompt",
            )
        return self._query(
            headers,
            request_id,
            purpose,
            self.user,
            messages=(Message(role="user", content=prompt),),
            sampling=self._wish(self.max_tokens, self.logprobs),
            prompt=prompt,
        )


class EmbeddingRequest(_Request):
    """The body of `/v1/embeddings`."""

    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None

    def query(self, headers: Mapping[str, str], request_id: str, purpose: Purpose) -> Query:
        """Who asks what for whom; the texts themselves are no messages."""
        return self._query(headers, request_id, purpose, self.user, messages=())

    def texts(self) -> list[str]:
        """The texts. Raises InvalidInput for what a gateway without a tokenizer cannot read or promise."""
        if self.dimensions is not None:
            raise InvalidInput("is not supported", reason="UNSUPPORTED_PARAMETER", field="dimensions")
        listed = [self.input] if isinstance(self.input, str) else list(self.input)
        texts = [each for each in listed if isinstance(each, str)]
        if len(texts) < len(listed):
            raise InvalidInput(
                "must be texts: token ids are the engine's business", reason="UNSUPPORTED_PARAMETER", field="input"
            )
        return texts


def parse(kind: type[B], body: bytes) -> B:
    """Read a body. Raises InvalidInput naming the field that is wrong or asks for what is not there."""
    try:
        request = kind.model_validate_json(body)
    except ValidationError as failure:
        first = failure.errors(include_url=False, include_input=False, include_context=False)[0]
        raise InvalidInput(str(first["msg"]), field=_place(first["loc"]) or None) from failure
    for name, value in (request.model_extra or {}).items():
        if name in _UNSUPPORTED and value is not None and value not in _UNSUPPORTED[name]:
            raise InvalidInput("is not supported", reason="UNSUPPORTED_PARAMETER", field=name)
    return request


def _place(location: tuple[int | str, ...]) -> str:
    # The branch of a union that was tried is pydantic's business, not the caller's.
    parts = [str(part) for part in location]
    return ".".join(part for part in parts if part.isidentifier() or part.isdigit()).replace(".str", "")


def _message(given: _Message, number: int) -> Message:
    if given.content is None:
        if not given.tool_calls:
            raise InvalidInput("must be text", field=f"messages.{number}.content")
        text = ""
    elif isinstance(given.content, str):
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
    if given.tool_calls and given.role != "assistant":
        raise InvalidInput("only an assistant calls tools", field=f"messages.{number}.tool_calls")
    calls = tuple(
        ToolCall(id=each.id, name=each.function.name, arguments=each.function.arguments)
        for each in given.tool_calls or ()
    )
    role = "system" if given.role == "developer" else given.role
    return Message(role=role, content=text, tool_calls=calls, tool_call_id=given.tool_call_id or "")
