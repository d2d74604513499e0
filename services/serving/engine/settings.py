"""Settings of an engine: `PAWL_ENGINE_*`."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from libs.contracts.ids import Digest, Name
from libs.runtime.settings import ServiceSettings


class EngineSettings(ServiceSettings):
    """What one engine needs; it holds no database."""

    model_config = SettingsConfigDict(env_prefix="PAWL_ENGINE_")

    database_url: str = ""
    base_digest: Digest | Literal["auto"]
    """The base that this engine serves: the digest of its tree. `auto`: the first one named by a route and served by no
    other engine; it is remembered in the state directory."""
    retire_base_after: Annotated[float, Field(ge=0)] = 300.0
    """Seconds without a route that names its base after which an engine that chose it by itself ends, so that its next
    start chooses anew; 0 never."""
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = "engine"
    """Its key among the engines."""
    advertise_address: str = ""
    """`host:port` that gateways dial; the listening one unless set."""
    tenant: Name = "default"
    """Whose object prefix holds the base."""

    max_loras: Annotated[int, Field(ge=2, le=256)] = 6
    """Adapters in one batch; fewer than this many are pinned, and at most half where more than this many are wanted."""
    max_cpu_loras: Annotated[int, Field(ge=2, le=4096)] = 24
    """Adapters held in memory. Others that routes name lie on the disk and are loaded when they are asked for."""
    cold_loads_per_minute: Annotated[int, Field(ge=0)] = 60
    """Adapters loaded on request within a minute; one more is refused with the time to come back."""
    hourly_cost: Annotated[float, Field(ge=0)] = 0.0
    """What this engine costs an hour, in the currency of the showback."""
    max_lora_rank: Annotated[Literal[1, 8, 16, 32, 64, 128, 256, 320, 512], BeforeValidator(int)] = 64
    """One of the ranks that vLLM has kernels for; adapters may have any up to it."""
    max_model_len: Annotated[int, Field(ge=16)] | None = None
    """Tokens of prompt and answer together; what the model says unless set."""
    max_num_seqs: Annotated[int, Field(ge=1)] = 64
    kv_cache_mib: Annotated[int, Field(ge=0)] = 512
    """Memory for keys and values, in MiB; 0 leaves it to vLLM (the right choice on a GPU)."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    threads: Annotated[int, Field(ge=0, le=512)] = 0
    """Threads of the worker on CPU; 0 takes half of the cores that the process may use, at least one."""
    enforce_eager: bool = True
    dtype: str = "auto"
    coalesce_seconds: Annotated[float, Field(ge=0, le=1)] = 0.05
    """With more than sixteen requests at once, the pieces of a stream that come so close travel together; 0 never."""
    default_max_tokens: Annotated[int, Field(ge=1)] = 256

    embeds: bool = False
    """Make vectors of texts instead of continuing them: for a base that is an embedding model, or to be used as one."""
    outside_url: Annotated[str, Field(pattern=r"^(https?://[^\s]+)?$")] = ""
    """A running vLLM server that generates in the place of a model of this process: started on the same base with
    `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, and with the state directory under the same path. The limits
    above are then those that it was started with."""
    outside_key: SecretStr = SecretStr("")
    outside_priorities: bool = False
    """It was started with `--scheduling-policy priority`; without that, users and shadows are equals to it."""

    beat_seconds: Annotated[float, Field(gt=0, le=10)] = 3.0
    retire_after: Annotated[float, Field(ge=0)] = 15.0
    """Seconds that a version stays routable after the last route that names it is gone."""

    @model_validator(mode="after")
    def _vectors_are_made_here(self) -> Self:
        if self.embeds and self.outside_url:
            raise ValueError("embeds: a server of somebody else's that makes vectors is a gateway's to ask")
        return self
