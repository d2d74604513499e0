"""A request with everything decided that its caller, the rules and its route decide."""

from dataclasses import dataclass, field

from libs.contracts.errors import PawlError, Transient, Unavailable
from libs.contracts.inference import Message, Provenance, ToolCall
from libs.contracts.routes import Arm, Route
from libs.contracts.subjects import version_name
from services.serving.gateway.domain import Caller, Choice, Chunk, Form, Generation, Inquiry, Query, SamplingWish

NOT_ROUTABLE = "VERSION_NOT_ROUTABLE"


@dataclass(slots=True)
class Plan:
    """What was decided, and what has come of it so far. `text` and `tool_calls` are the first answer's."""

    query: Query
    caller: Caller
    route: Route
    choice: Choice
    rule: str
    unit: str
    messages: tuple[Message, ...]
    sampling: SamplingWish
    form: Form
    began: float
    arm: Arm
    hourly_cost: float = 0.0
    canary_trouble: str | None = None
    first_token: float | None = None
    text: list[str] = field(default_factory=list)
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = ""
    last: Chunk | None = None

    @property
    def finished(self) -> bool:
        """Whether every answer asked for has ended."""
        return self.last is not None and self.last.usage is not None

    def generation(self) -> Generation:
        """Who answers, as of now."""
        return Generation(
            self.query.request_id,
            version_name(self.route.task, self.arm.version),
            self.route.generation,
            self.arm.traceparent or "",
            self.rule,
        )

    def inquiry(self, arm: Arm, timeout: float, *, whole: bool) -> Inquiry:
        """The call of an engine for one of the arms."""
        return Inquiry(
            self.query.request_id,
            self.messages,
            self.sampling,
            arm.digest,
            self.query.purpose.priority,
            timeout,
            whole,
            self.form,
            self.query.prompt,
            self.caller.tenant,
        )

    def note(self, chunk: Chunk, now: float) -> None:
        """Take a chunk into the record."""
        if self.first_token is None:
            self.first_token = now
        if chunk.index == 0:
            self.text.append(chunk.text)
            self.tool_calls += chunk.tool_calls
            self.finish_reason = chunk.finish_reason or self.finish_reason
        self.last = chunk

    def forget(self) -> None:
        """Start anew: what an engine said before it was lost counts for nothing."""
        self.text.clear()
        self.tool_calls = ()
        self.finish_reason = ""
        self.first_token = None
        self.last = None


def passing(failure: PawlError) -> bool:
    """Whether another engine, or the same one later, may well answer."""
    return isinstance(failure, Transient) or failure.reason == NOT_ROUTABLE


def nobody(plan: Plan) -> Unavailable:
    """No engine can serve what was asked for."""
    name = version_name(plan.route.task, plan.choice.arm.version)
    return Unavailable(f"no engine can serve {name} right now", reason="NO_ENGINE", model=name)


def intended(arm: Arm) -> Provenance:
    """Who should have answered, where nobody did."""
    return Provenance(base_digest=arm.base_digest, adapter_digest=arm.adapter_digest)
