"""A broker, an engine that keeps a pace and some gateways, each a process of its own."""

import hashlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.gateway.control import database_url, seed
from bench.gateway.paced import BASE, VERSIONS
from libs.contracts.inference import Role
from libs.contracts.routes import ApiKey, Arm, KeyRole, Route
from libs.contracts.subjects import KEYS, ROUTES, task_key
from libs.eventing.apply import apply
from libs.eventing.connection import NatsLink
from libs.eventing.kv import kv_put
from libs.testing.servers import NatsServer, free_port

KEY = "bench-key"
TASK = "bench"
START_SECONDS = 300.0


@dataclass
class Door:
    """A gateway."""

    process: subprocess.Popen[bytes]
    http_port: int
    grpc_port: int


@dataclass
class Stack:
    """What runs."""

    link: NatsLink
    engine_port: int
    doors: list[Door]
    generation: int = 0
    registry_port: int = 0

    async def flip(self, version: int) -> int:
        """Make a version stable, as the registry would; returns the route's generation."""
        self.generation += 1
        stable, other = VERSIONS[version - 1], VERSIONS[2 - version]
        arms = (
            Arm(version=version, role=Role.STABLE, share=1.0, digest=stable, base_digest=BASE, adapter_digest=stable),
            Arm(version=3 - version, role=Role.PREVIOUS, digest=other, base_digest=BASE, adapter_digest=other),
        )
        route = Route(
            tenant="default", task=TASK, generation=self.generation, salt="s", max_tokens=4096, arms=arms
        )  # fmt: skip
        await kv_put(self.link, ROUTES, task_key("default", TASK), route)
        return self.generation


@contextmanager
def on_cores(cores: Collection[int]) -> Iterator[None]:
    """What is started in the block has these cores, all its threads; none named: what we have."""
    held = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or held)
    try:
        yield
    finally:
        os.sched_setaffinity(0, held)


@asynccontextmanager
async def stack(
    home: Path, gateways: int, seconds: float, tasks: Sequence[str] = (), cores: Collection[int] = ()
) -> AsyncIterator[Stack]:
    """Everything started and known to everybody; `seconds` between the engine's tokens.

    With `tasks` there is a registry too, and each of them has a version to roll back to. `cores` are for the gateways,
    all their threads; empty is what this process has.
    """
    processes: list[subprocess.Popen[bytes]] = []
    with NatsServer(home / "nats") as nats, (home / "log").open("ab") as log:
        link = NatsLink(nats.url, "bench", on_closed=lambda: None)
        await link.connect(wait=True)
        await apply(link.js)
        digest = hashlib.sha256(KEY.encode()).hexdigest()
        await kv_put(
            link, KEYS, digest, ApiKey(key_hash=digest, name=KEY, tenant="default", roles=(KeyRole.CLIENT,))
        )  # fmt: skip
        engine_port = free_port()

        def start(module: str, pinned: Collection[int] = (), **environment: str) -> subprocess.Popen[bytes]:
            made = {**os.environ, "PAWL_NATS_URL": nats.url, **environment}
            with on_cores(pinned):
                processes.append(subprocess.Popen([sys.executable, "-m", module], env=made, stdout=log, stderr=log))
            return processes[-1]

        try:
            start("bench.gateway.paced", PACED_PORT=str(engine_port), PACED_SECONDS=str(seconds))
            doors, health = [], []
            for number in range(gateways):
                http_port, grpc_port, health_port = free_port(), free_port(), free_port()
                process = start(
                    "services.serving.gateway",
                    cores,
                    PAWL_GATEWAY_STATE_DIR=str(home / f"gateway-{number}"),
                    PAWL_GATEWAY_HTTP_PORT=str(http_port),
                    PAWL_GATEWAY_GRPC_PORT=str(grpc_port),
                    PAWL_GATEWAY_HEALTH_PORT=str(health_port),
                    PAWL_GATEWAY_MAX_IN_FLIGHT="2000",
                )
                doors.append(Door(process, http_port, grpc_port))
                health.append(health_port)
            made = Stack(link, engine_port, doors)
            await made.flip(1)
            if tasks:
                made.registry_port = free_port()
                health.append(free_port())
                await seed(home, list(tasks))
                start(
                    "services.registry",
                    PAWL_REGISTRY_STATE_DIR=str(home / "registry"),
                    PAWL_REGISTRY_DATABASE_URL=database_url(home),
                    PAWL_REGISTRY_GRPC_PORT=str(made.registry_port),
                    PAWL_REGISTRY_HEALTH_PORT=str(health[-1]),
                    PAWL_S3_ENDPOINT="http://127.0.0.1:9",
                    PAWL_S3_ACCESS_KEY="nobody",
                    PAWL_S3_SECRET_KEY="nobody",
                )
            for port in health:
                _await(port, home / "log")
            yield made
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(20)
            await link.close()


def _await(port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2).close()
        except (urllib.error.URLError, OSError) as failure:
            if time.monotonic() > deadline:
                raise RuntimeError(log.read_text(errors="replace")[-3000:]) from failure
            time.sleep(0.1)
        else:
            return
