"""A request as the gateway sees it, whichever door it came through, and the pieces of its answer."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from libs.contracts.errors import InvalidInput, PermissionDenied
from libs.contracts.inference import Message, Provenance, ToolCall
from libs.contracts.routes import ApiKey, KeyLimits, KeyRole, Route
from services.serving.gateway.domain.form import FREE, Form

MAX_OUTPUT_TOKENS = 32_768
MAX_ANSWERS = 8
NO_LIMITS = KeyLimits()
_ROLES = ("system", "user", "assistant", "tool")
_MAX_ID = 200
_MAX_STOPS = 4
_MAX_TOP = 20
_MAX_BIASES = 1024


class Purpose(StrEnum):
    """Why an answer is wanted: users come first, evaluation and shadows yield."""

    USE = "use"
    EVALUATION = "evaluation"
    SHADOW = "shadow"

    @property
    def priority(self) -> int:
        """0 first."""
        return {Purpose.USE: 0, Purpose.EVALUATION: 5, Purpose.SHADOW: 10}[self]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, by API key."""

    name: str
    tenant: str
    roles: frozenset[KeyRole]
    limits: KeyLimits = NO_LIMITS
    tasks: tuple[str, ...] = ()
    """The tasks that the key may ask; none named: all of its tenant."""

    @classmethod
    def of(cls, key: ApiKey) -> "Caller":
        """The caller behind a key."""
        return cls(key.name, key.tenant, frozenset(key.roles), key.limits, key.tasks)

    def may_ask(self, task: str) -> bool:
        """Whether the key is entitled to a task."""
        return not self.tasks or task in self.tasks

    def entitled(self, task: str) -> None:
        """Raise PermissionDenied for a task that the key was not given."""
        if not self.may_ask(task):
            raise PermissionDenied(
                f"the key {self.name!r} may not ask the task {task!r}", reason="TASK_NOT_ENTITLED", field="model"
            )

    def purpose(self, asked: str) -> Purpose:
        """The purpose a caller may state. Raises InvalidInput, or PermissionDenied without the evaluator's role."""
        if asked in ("", Purpose.USE):
            self.need(KeyRole.CLIENT, KeyRole.EVALUATOR)
            return Purpose.USE
        if asked != Purpose.EVALUATION:
            raise InvalidInput(f"{asked!r} is not a purpose: leave it out or say 'evaluation'", field="x-pawl-purpose")
        self.need(KeyRole.EVALUATOR)
        return Purpose.EVALUATION

    def need(self, *roles: KeyRole) -> None:
        """Raise PermissionDenied unless the key has one of the roles."""
        if not self.roles.intersection(roles):
            raise PermissionDenied(f"the key {self.name!r} needs the role {' or '.join(roles)}", reason="ROLE_MISSING")


@dataclass(frozen=True, slots=True)
class SamplingWish:
    """What the client asked for; None leaves it to the task (greedy, the task's `max_tokens`)."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    n: int = 1
    logprobs: bool = False
    top_logprobs: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold."""

    messages: int = 128
    characters: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Query:
    """One request for an answer. `user` is the unit that a canary is sticky on; empty means each request on its own.

    `facts` are what rules may route by beside user and segment. `prompt` stands instead of messages and is continued as
    it is, without system message and template.
    """

    model: str
    messages: tuple[Message, ...]
    request_id: str
    sampling: SamplingWish = SamplingWish()
    user: str = ""
    segment: str = ""
    purpose: Purpose = Purpose.USE
    form: Form = FREE
    facts: Mapping[str, str] = field(default_factory=dict)
    prompt: str = ""

    def check(self, limits: Limits) -> None:
        """Raise InvalidInput naming the first field that is out of range."""
        if len(self.prompt) > limits.characters:
            raise InvalidInput(f"has more than {limits.characters} characters", field="prompt")
        if not self.messages:
            raise InvalidInput("must hold at least one message", field="messages")
        if len(self.messages) > limits.messages:
            raise InvalidInput(f"has {len(self.messages)} messages, more than {limits.messages}", field="messages")
        for number, message in enumerate(self.messages):
            if message.role not in _ROLES:
                raise InvalidInput(
                    f"{message.role!r} is not one of {', '.join(_ROLES)}", field=f"messages.{number}.role"
                )
        if sum(len(message.content) for message in self.messages) > limits.characters:
            raise InvalidInput(f"the messages have more than {limits.characters} characters", field="messages")
        for name, value in (("request_id", self.request_id), ("user", self.user), ("segment", self.segment)):
            if len(value) > _MAX_ID or not value.isprintable():
                raise InvalidInput(f"must be at most {_MAX_ID} printable characters", field=name)
        _check_sampling(self.sampling)
        self.form.check()

    def prepared(self, route: Route) -> tuple[Message, ...]:
        """The messages as the task's models were trained to see them: with its system message, unless there is one."""
        if not route.system or self.prompt or any(message.role == "system" for message in self.messages):
            return self.messages
        return (Message(role="system", content=route.system), *self.messages)

    def settled(self, route: Route) -> SamplingWish:
        """Sampling with the task's defaults filled in and its limit enforced.

        A specialist answers deterministically unless asked otherwise: the default temperature is 0, not OpenAI's 1.
        """
        wish = self.sampling
        return replace(
            wish,
            temperature=0.0 if wish.temperature is None else wish.temperature,
            top_p=1.0 if wish.top_p is None else wish.top_p,
            max_tokens=min(wish.max_tokens or route.max_tokens, route.max_tokens),
        )

    def shaped(self, route: Route) -> Form:
        """The form of the answer: the one asked for, else the task's own schema where the task holds answers to it."""
        if route.output_schema and self.form.free and not self.prompt:
            return replace(self.form, json_schema=route.output_schema)
        return self.form


def _check_sampling(wish: SamplingWish) -> None:
    if wish.temperature is not None and not 0.0 <= wish.temperature <= 2.0:
        raise InvalidInput("must be between 0 and 2", field="temperature")
    if wish.top_p is not None and not 0.0 < wish.top_p <= 1.0:
        raise InvalidInput("must be above 0 and at most 1", field="top_p")
    if wish.max_tokens is not None and not 1 <= wish.max_tokens <= MAX_OUTPUT_TOKENS:
        raise InvalidInput(f"must be between 1 and {MAX_OUTPUT_TOKENS}", field="max_tokens")
    if wish.seed is not None and not 0 <= wish.seed < 2**63:
        raise InvalidInput("must be between 0 and 2**63 - 1", field="seed")
    for name, penalty in (
        ("presence_penalty", wish.presence_penalty),
        ("frequency_penalty", wish.frequency_penalty),
    ):
        if penalty is not None and not -2.0 <= penalty <= 2.0:
            raise InvalidInput("must be between -2 and 2", field=name)
    if not 1 <= wish.n <= MAX_ANSWERS:
        raise InvalidInput(f"must be between 1 and {MAX_ANSWERS}", field="n")
    if not 0 <= wish.top_logprobs <= _MAX_TOP:
        raise InvalidInput(f"must be between 0 and {_MAX_TOP}", field="top_logprobs")
    if wish.top_logprobs and not wish.logprobs:
        raise InvalidInput("needs logprobs to be true", field="top_logprobs")
    if len(wish.logit_bias) > _MAX_BIASES or any(
        not (0 <= token < 2**31 and math.isfinite(bias) and -100.0 <= bias <= 100.0)
        for token, bias in wish.logit_bias.items()
    ):
        raise InvalidInput(f"must map at most {_MAX_BIASES} token ids to numbers from -100 to 100", field="logit_bias")
    if len(wish.stop) > _MAX_STOPS or any(not each or len(each) > _MAX_ID for each in wish.stop):
        raise InvalidInput(f"must be at most {_MAX_STOPS} texts of 1 to {_MAX_ID} characters", field="stop")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens in and out; `cached_tokens` are those of the prompt that an engine says it knew."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token's log-probability (natural), with those of the likeliest tokens in its place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer: `finish_reason` comes with the last one of its `index`, `usage` with the last of all."""

    text: str
    provenance: Provenance
    finish_reason: str = ""
    usage: Usage | None = None
    index: int = 0
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    others: tuple["Chunk", ...] = ()
    """Of a whole answer: the ones after the first, where several were asked for."""
    engine_seconds: float = 0.0
    """The answer's part of the engine's busy time so far; 0 where an engine does not say."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """One vector for each text, in their order, with what made them and the tokens of all of them together."""

    vectors: tuple[tuple[float, ...], ...]
    provenance: Provenance
    prompt_tokens: int = 0
    engine_seconds: float = 0.0
    """The engine's busy time; 0 where it does not say."""


@dataclass(frozen=True, slots=True)
class Generation:
    """Who answers: known before the first piece. `version` is the public name, such as `support-triage@2`."""

    request_id: str
    version: str
    route_generation: int
    turn_traceparent: str = ""
    rule: str = ""
    """The routing rule that chose it, if one did."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on a monotonic clock, in seconds."""

    at: float

    def left(self, now: float) -> float:
        """Seconds until then, never negative."""
        return max(0.0, self.at - now)
