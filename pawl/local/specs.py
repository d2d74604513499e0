"""Which processes make up a stack, with their commands, environments and health addresses (pure)."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from pawl.local.layout import Layout
from pawl.local.state import StackState

SERVICES = ("registry", "ingestion", "curation", "trainer", "evaluator", "gateway", "console")
"""In the order of start; engines come and go with the bases that routes name."""

STATEFUL = ("registry", "ingestion", "curation", "trainer", "evaluator")
MODULES = {"gateway": "services.serving.gateway", "engine": "services.serving.engine"}
S3_BUCKET = "pawl"
TOPOLOGY = "topology"
"""The job that gives the broker its streams, consumers and buckets."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process to keep running. `health` is a URL that answers 200 when it is ready; `live` when it is alive."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str] = field(repr=False)
    health: str
    live: str
    log: Path
    grace_seconds: float = 15.0


def local(state: StackState, name: str) -> str:
    """`127.0.0.1:<port>`."""
    return f"127.0.0.1:{state.port(name)}"


def endpoints(state: StackState) -> dict[str, str]:
    """What a stack offers, by name; gRPC addresses are `host:port`, the others URLs."""
    ports = {name: f"127.0.0.1:{port}" for name, port in state.ports.items()}
    urls = {
        "nats": f"nats://{ports['nats']}",
        "s3": f"http://{ports['s3']}",
        "http": f"http://{ports['gateway-http']}/v1",
        "grpc": ports["gateway-grpc"],
        "console": f"http://{ports['console-http']}",
        **({"imports": f"http://{ports['ingestion-http']}/v1"} if "ingestion-http" in ports else {}),
    }
    return urls | {name: ports[f"{name}-grpc"] for name in STATEFUL}


def infrastructure(layout: Layout, state: StackState, nats_binary: str, rclone_binary: str) -> list[ProcessSpec]:
    """The broker and the object store."""
    nats_data, s3_data = layout.data("nats"), layout.data("s3")
    monitor = state.port("nats-monitor")
    access, secret = state.secret("s3_access_key"), state.secret("s3_secret_key")
    nats = ProcessSpec(
        name="nats",
        argv=(
            nats_binary,
            "-a",
            "127.0.0.1",
            "-p",
            str(state.port("nats")),
            "-m",
            str(monitor),
            "-js",
            "-sd",
            str(nats_data),
            "-c",
            str(layout.broker),
        ),
        env={},
        health=f"http://127.0.0.1:{monitor}/healthz",
        live=f"http://127.0.0.1:{monitor}/varz",
        log=layout.log("nats"),
    )
    s3 = ProcessSpec(
        name="s3",
        argv=(
            *(
                rclone_binary,
                "serve",
                "s3",
                str(s3_data),
                "--addr",
                local(state, "s3"),
                "--config",
                "/dev/null",
                "--vfs-cache-mode",
                "off",
                "--no-cleanup",
                "--log-level",
                "NOTICE",
            ),
        ),
        env={"RCLONE_AUTH_KEY": f'"{access},{secret}"'},  # not in the arguments, which everybody can read
        health=f"tcp://{local(state, 's3')}",
        live=f"tcp://{local(state, 's3')}",
        log=layout.log("s3"),
    )
    return [nats, s3]


def shared_environment(layout: Layout, state: StackState) -> dict[str, str]:
    """What every process of Pawl is told; a cluster says the same with other addresses."""
    addresses = endpoints(state)
    return {
        "PAWL_NATS_URL": addresses["nats"],
        "PAWL_S3_ENDPOINT": addresses["s3"],
        "PAWL_S3_ACCESS_KEY": state.secret("s3_access_key"),
        "PAWL_S3_SECRET_KEY": state.secret("s3_secret_key"),
        "PAWL_S3_BUCKET": S3_BUCKET,
        "PAWL_REGISTRY_KEYS": str(layout.keys),
        "PAWL_EVALUATOR_GATEWAY_ADDRESS": addresses["grpc"],
        "PAWL_EVALUATOR_API_KEY": state.secret("evaluator_key", "pawl-"),
        **{f"PAWL_CONSOLE_{name.upper()}_ADDRESS": addresses[name] for name in STATEFUL},
    }


def nats_proof(state: StackState, name: str) -> dict[str, str]:
    """What a process proves itself by to the broker."""
    return {"PAWL_NATS_USER": name, "PAWL_NATS_PASSWORD": state.secret(f"nats_{name}")}


def service(layout: Layout, state: StackState, name: str) -> ProcessSpec:
    """One of the services, as a process."""
    prefix = f"PAWL_{name.upper()}"
    health = state.port(f"{name}-health")
    own = {f"{prefix}_HEALTH_PORT": str(health), "PAWL_STATE_DIR": str(layout.data(name))}
    own |= nats_proof(state, name)
    if name in STATEFUL:
        own[f"{prefix}_DATABASE_URL"] = database_url(layout, name)
    if name != "console":
        own[f"{prefix}_GRPC_PORT"] = str(state.port(f"{name}-grpc"))
    if name in ("gateway", "console", "ingestion"):
        own[f"{prefix}_HTTP_PORT"] = str(state.port(f"{name}-http"))
    return ProcessSpec(
        name=name,
        argv=(sys.executable, "-m", MODULES.get(name, f"services.{name}")),
        env=shared_environment(layout, state) | own,
        health=f"http://127.0.0.1:{health}/readyz",
        live=f"http://127.0.0.1:{health}/livez",
        log=layout.log(name),
    )


def engine(layout: Layout, state: StackState, base_digest: str) -> ProcessSpec:
    """The engine of one base."""
    name = state.bases.setdefault(base_digest, f"engine-{base_digest.removeprefix('sha256:')[:8]}")
    health = state.port(f"{name}-health")
    own = {
        "PAWL_ENGINE_ID": name,
        "PAWL_ENGINE_BASE_DIGEST": base_digest,
        "PAWL_ENGINE_HEALTH_PORT": str(health),
        "PAWL_ENGINE_GRPC_PORT": str(state.port(f"{name}-grpc")),
        "PAWL_STATE_DIR": str(layout.data(name)),
        **nats_proof(state, "engine"),
    }
    return ProcessSpec(
        name=name,
        argv=(sys.executable, "-m", MODULES["engine"]),
        env=shared_environment(layout, state) | own,
        health=f"http://127.0.0.1:{health}/readyz",
        live=f"http://127.0.0.1:{health}/livez",
        log=layout.log(name),
        grace_seconds=30.0,
    )


def reserve_ports(state: StackState, taken_by_us: frozenset[int] = frozenset()) -> None:
    """Settle every port before the first process starts, so that all addresses are known to all."""
    names = ["nats", "nats-monitor", "s3", "gateway-http", "console-http", "ingestion-http"]
    names += [f"{name}-health" for name in SERVICES] + [f"{name}-grpc" for name in SERVICES if name != "console"]
    names += [f"{engine_name}-{kind}" for engine_name in state.bases.values() for kind in ("health", "grpc")]
    for name in names:
        state.port(name, taken_by_us=taken_by_us)


def database_url(layout: Layout, name: str) -> str:
    """The SQLite file of a service."""
    return f"sqlite+aiosqlite:///{layout.data(name) / 'state.db'}"


def jobs(layout: Layout, state: StackState) -> list[tuple[str, tuple[str, ...], dict[str, str]]]:
    """One-shot jobs between infrastructure and services: name, command, environment."""
    databases = {f"PAWL_{name.upper()}_DATABASE_URL": database_url(layout, name) for name in STATEFUL}
    topology = (sys.executable, "-m", "libs.eventing", "apply", "--nats", endpoints(state)["nats"])
    return [
        (TOPOLOGY, topology, nats_proof(state, "topology")),
        ("migrations", (sys.executable, "-m", "libs.outbox", "migrate", "all"), databases),
    ]
