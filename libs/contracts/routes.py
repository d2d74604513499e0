"""Desired state in KV: routes, engines' reports, API keys and the wishes about runs."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from libs.contracts.inference import Role
from libs.contracts.task.routing import RoutingSpec


class State(BaseModel):
    """Base of every KV document."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Arm(State):
    """One model version in a route. `digest` names the version; for a bare base it equals `base_digest`.

    `share` is the fraction of user units in [0, 1]; only stable and canary have one.
    """

    version: int
    role: Role
    share: float = Field(0.0, ge=0.0, le=1.0)
    digest: str
    base_digest: str
    adapter_digest: str = ""
    turn_id: str | None = None
    traceparent: str | None = None


class Route(State):
    """The whole route of a task; `generation` rises with every change, an older one never replaces a newer."""

    tenant: str
    task: str
    generation: int
    salt: str
    system: str = ""
    max_tokens: int = 256
    shadow_rate: float = Field(0.0, ge=0.0, le=1.0)
    output_schema: str = Field("", description="JSON Schema that every answer is held to, where the task wants that")
    routing: RoutingSpec = Field(RoutingSpec(), description="which requests without a task this task answers")
    arms: tuple[Arm, ...]

    def arm(self, role: Role) -> Arm | None:
        """The arm in a role, if any."""
        return next((arm for arm in self.arms if arm.role is role), None)

    def version(self, number: int) -> Arm | None:
        """The arm of a version number, if it is in the route."""
        return next((arm for arm in self.arms if arm.version == number), None)


class EngineReport(State):
    """What one engine can serve right now; refreshed by a beat, gone when the beat stops."""

    engine_id: str
    address: str
    base_digest: str
    tokenizer_digest: str = ""
    template_digest: str = ""
    routable: tuple[str, ...] = Field((), description="version digests loaded, verified and smoke-tested")
    resident: tuple[str, ...] = Field((), description="those whose adapter the engine holds loaded right now")
    cold: tuple[str, ...] = Field((), description="those on its disk, verified, and loaded when they are asked for")
    pinned: tuple[str, ...] = Field((), description="those that keep their slot whatever else is asked for")
    failed: dict[str, str] = Field(default_factory=dict, description="version digest -> why it cannot be served")
    in_flight: int = 0
    waiting: int = Field(0, description="requests that wait for an adapter slot")
    max_adapters: int = Field(0, description="adapters in memory at most")
    max_loras: int = Field(0, description="adapter slots: adapters in one batch at most")
    hourly_cost: float = Field(0.0, description="what the engine costs an hour")
    embeds: bool = Field(False, description="makes vectors of texts instead of continuing them")
    max_model_len: int = 0
    started_at: datetime
    beat_at: datetime


class KeyRole(StrEnum):
    """What an API key may do."""

    CLIENT = "client"
    EVALUATOR = "evaluator"
    OPERATOR = "operator"


class KeyLimits(State):
    """What a key may use, at each gateway by itself; None is no limit. Tokens are those of prompts and answers."""

    requests_per_minute: int | None = Field(None, ge=1)
    tokens_per_minute: int | None = Field(None, ge=1)
    tokens_per_day: int | None = Field(None, ge=1)
    in_flight: int | None = Field(None, ge=1)


class ApiKey(State):
    """An API key by its sha256 (hex), never in clear; the KV key is the hash. `tasks` it may ask; none named: all."""

    key_hash: str
    name: str
    tenant: str
    roles: tuple[KeyRole, ...]
    limits: KeyLimits = KeyLimits()
    tasks: tuple[str, ...] = ()


class RunWish(StrEnum):
    """What the registry wants of a run."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"


class RunState(State):
    """Desired state of one run; the KV key is the run id."""

    run_id: str
    wish: RunWish
    by: str = ""
    reason: str = ""
