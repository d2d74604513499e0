"""Settings from the environment: one prefix per service, common values shared, one clear line when one is wrong."""

import difflib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

SHARED_PREFIX = "PAWL_"
_SHORTEST_SECRET = 32
EXIT_USAGE = 2
"""Exit status of a process that was told something wrong: restarting it does not help."""


def _url(*schemes: str) -> AfterValidator:
    def check(value: str) -> str:
        for part in value.split(","):
            scheme, separator, rest = part.strip().partition("://")
            if not separator or scheme not in schemes or not rest:
                raise ValueError(f"must look like {' or '.join(f'{each}://...' for each in schemes)}")
        return value

    return AfterValidator(check)


def _long(value: SecretStr) -> SecretStr:
    if value and len(value) < _SHORTEST_SECRET:
        raise ValueError(f"must have {_SHORTEST_SECRET} characters at least, drawn at random")
    return value


def _level(value: object) -> object:
    name = value.upper() if isinstance(value, str) else value
    if name not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
        raise ValueError("must be DEBUG, INFO, WARNING, ERROR or CRITICAL")
    return name


def _sqlite_file(validated: dict[str, Any]) -> str:
    return f"sqlite+aiosqlite:///{Path(validated.get('state_dir', '.')) / 'state.db'}"


NatsUrl = Annotated[str, _url("nats", "tls")]
HttpUrl = Annotated[str, _url("http", "https")]
DatabaseUrl = Annotated[str, _url("sqlite+aiosqlite", "postgresql+asyncpg")]
Port = Annotated[int, Field(ge=0, le=65535)]
"""A TCP port; 0 lets the system choose."""
LogLevel = Annotated[str, BeforeValidator(_level)]


class ProcessSettings(BaseSettings):
    """What every process needs. A subclass sets `env_prefix="PAWL_<SERVICE>_"`; `PAWL_<NAME>` is the fall-back."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, validate_default=True, hide_input_in_errors=True)

    state_dir: Path
    health_host: str = "127.0.0.1"
    health_port: Port
    log_level: LogLevel = "INFO"
    otlp_endpoint: HttpUrl | None = None
    drain_seconds: Annotated[float, Field(gt=0, le=600)] = 10.0
    """Time, in seconds, that a stopping process may take for what is in flight."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - named by the base class
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the service's variables, then the shared ones, then mounted secret files."""
        return init_settings, env_settings, _SharedSource(settings_cls), file_secret_settings

    @classmethod
    def variable(cls, field: str) -> str:
        """The environment variable that sets a field, e.g. `PAWL_INGESTION_GRPC_PORT`."""
        return f"{cls.model_config.get('env_prefix', '')}{field}".upper()

    @classmethod
    def load(cls) -> Self:
        """Settings of this process from its environment; a wrong or missing one ends it with one line and status 2."""
        try:
            return cls()  # values come from the environment
        except ValidationError as failure:
            refuse("; ".join(_explain(cls, failure)))
        except SettingsError as failure:
            refuse(_explain_unparsable(cls, failure))

    @classmethod
    def misspelt(cls, environment: Mapping[str, str]) -> dict[str, str]:
        """Variables of this service that set nothing, each with the nearest one that does (only near misses)."""
        prefix = str(cls.model_config.get("env_prefix", "")).upper()
        known = [cls.variable(name) for name in cls.model_fields]
        found: dict[str, str] = {}
        for name in environment:
            upper = name.upper()
            if prefix and upper.startswith(prefix) and upper not in known:
                # An orchestrator may inject variables under the same prefix, so only a near miss counts.
                nearest = difflib.get_close_matches(
                    upper.removeprefix(prefix), [k.removeprefix(prefix) for k in known], 1, 0.8
                )
                if nearest:
                    found[name] = prefix + nearest[0]
        return found


class ServiceSettings(ProcessSettings):
    """A process with gRPC, NATS, object storage and a database; one that lacks a part gives its fields defaults."""

    nats_url: NatsUrl
    nats_user: str = ""
    nats_password: SecretStr = SecretStr("")
    s3_endpoint: HttpUrl
    s3_access_key: str
    s3_secret_key: SecretStr
    s3_bucket: str = "pawl"
    s3_region: str = "us-east-1"
    database_url: DatabaseUrl = Field(default_factory=_sqlite_file)
    """The SQLite file `<state_dir>/state.db` unless set."""
    grpc_host: str = "127.0.0.1"
    grpc_port: Port
    pseudonym_secret: Annotated[SecretStr, AfterValidator(_long)] = SecretStr("")
    """What pseudonyms are keyed by, the same for ingestion and curation: 32 random characters at least. Unset, each
    tenant's is made once and kept in object storage."""

    def nats_credentials(self) -> dict[str, Any]:
        """What this process proves itself by to the broker; empty where the broker asks nobody."""
        if not self.nats_user:
            return {}
        return {"user": self.nats_user, "password": self.nats_password.get_secret_value()}

    @model_validator(mode="after")
    def _distinct_ports(self) -> Self:
        if self.grpc_port and self.grpc_port == self.health_port and self.grpc_host == self.health_host:
            raise ValueError(f"grpc_port and health_port are both {self.grpc_port}")
        return self


def refuse(line: str) -> NoReturn:
    """End the process with one line on stderr and the status of a usage error."""
    sys.stderr.write(f"error: {' '.join(line.split())}\n")
    sys.stderr.flush()
    sys.exit(EXIT_USAGE)


class _SharedSource(EnvSettingsSource):
    """`PAWL_<NAME>` for the fields that all processes share, and for no other."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls, env_prefix=SHARED_PREFIX)

    def __call__(self) -> dict[str, Any]:
        shared = ServiceSettings.model_fields
        return {name: value for name, value in super().__call__().items() if name in shared}


def _explain(cls: type[ProcessSettings], failure: ValidationError) -> Iterator[str]:
    for error in failure.errors(include_url=False, include_input=False):
        if error["type"] == "default_factory_not_called":
            continue  # only says that another field is wrong
        field = str(error["loc"][0]) if error["loc"] else ""
        message = error["msg"].removeprefix("Value error, ")
        if not field:
            yield message
            continue
        variable, shared = cls.variable(field), f"{SHARED_PREFIX}{field.upper()}"
        by_shared = field in ServiceSettings.model_fields and variable not in {name.upper() for name in os.environ}
        if error["type"] == "missing":
            yield f"{variable} is not set" + (f" (nor {shared})" if field in ServiceSettings.model_fields else "")
        else:
            yield f"{shared if by_shared and shared in os.environ else variable}: {message[:1].lower() + message[1:]}"


def _explain_unparsable(cls: type[ProcessSettings], failure: SettingsError) -> str:
    named = re.search(r'field "(\w+)"', str(failure))
    return f"{cls.variable(named[1])}: is not valid JSON for this setting" if named else str(failure)
