"""One real stack for all tests of serving: broker, object storage, an engine with a tiny base, a gateway."""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio

from libs.artifacts import ObjectStore
from libs.contracts.inference import Role
from libs.contracts.routes import ApiKey, Arm, KeyRole, Route
from libs.contracts.subjects import KEYS, ROUTES, task_key
from libs.eventing.apply import apply
from libs.eventing.connection import NatsLink
from libs.eventing.kv import kv_put
from libs.testing.models import tiny_adapter, tiny_base
from libs.testing.servers import NatsServer, S3Server, free_port

T = TypeVar("T")
START_SECONDS = 600.0
KEYS_IN_CLEAR = {
    "client-key": KeyRole.CLIENT,
    "evaluator-key": KeyRole.EVALUATOR,
    "operator-key": KeyRole.OPERATOR,
}


class Service:
    """A service of ours as a child process."""

    def __init__(self, module: str, home: Path, environment: dict[str, str]) -> None:
        self.module = module
        self.home = home
        self.health_port = free_port()
        self.grpc_port = free_port()
        prefix = f"PAWL_{module.rpartition('.')[2].upper()}"
        self.environment = {
            **environment,
            f"{prefix}_STATE_DIR": str(home),
            f"{prefix}_HEALTH_PORT": str(self.health_port),
            f"{prefix}_GRPC_PORT": str(self.grpc_port),
        }
        self.log = home.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module], env={**os.environ, **self.environment}, stdout=log, stderr=log
            )

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.ready():
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{self.module} is not ready:\n{self.log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.1)

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(30)


class Stack:
    """Everything around an engine and a gateway; `versions` are adapter digests by number, 0 is the base."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.nats = NatsServer(home / "nats")
        self.s3 = S3Server(home / "s3")
        self.nats.start()
        self.s3.start()
        self.base = tiny_base(home / "base")
        self.base_digest = ""
        self.generation = 0
        asyncio.run(self._fill())
        shared = {
            "PAWL_NATS_URL": self.nats.url,
            "PAWL_S3_ENDPOINT": self.s3.endpoint,
            "PAWL_S3_ACCESS_KEY": self.s3.access_key,
            "PAWL_S3_SECRET_KEY": self.s3.secret_key,
        }
        self.engine = Service(
            "services.serving.engine",
            home / "engine",
            {
                **shared,
                "PAWL_ENGINE_BASE_DIGEST": self.base_digest,
                "PAWL_ENGINE_MAX_LORAS": "3",
                "PAWL_ENGINE_MAX_CPU_LORAS": "6",
                "PAWL_ENGINE_MAX_LORA_RANK": "16",
                "PAWL_ENGINE_KV_CACHE_MIB": "128",
                "PAWL_ENGINE_RETIRE_AFTER": "0.3",
            },
        )
        self.http_port = free_port()
        self.gateway = Service(
            "services.serving.gateway",
            home / "gateway",
            {
                **shared,
                "PAWL_GATEWAY_HTTP_PORT": str(self.http_port),
                "PAWL_GATEWAY_ADMISSION_WAIT": "300",
                "PAWL_GATEWAY_REQUEST_SECONDS": "360",
            },
        )

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def objects(self) -> ObjectStore:
        return ObjectStore(self.s3.endpoint, self.s3.access_key, self.s3.secret_key)

    async def linked(self, work: Callable[[NatsLink], Awaitable[T]]) -> T:
        link = NatsLink(self.nats.url, "test", on_closed=lambda: None)
        await link.connect(wait=True)
        try:
            return await work(link)
        finally:
            await link.close()

    async def adapter(
        self, name: str, seed: int, change: Callable[[Path], object] | None = None, **options: Any
    ) -> str:
        """Make an adapter, change it on disk if asked, store it; returns its digest."""
        place = tiny_adapter(
            self.base, self.home / "adapters" / name, seed, **{"base_digest": self.base_digest, **options}
        )
        if change is not None:
            change(place)
        return await self.objects().put_tree(place, kind="adapter")

    def arm(self, version: int, role: Role, digest: str = "", share: float = 0.0) -> Arm:
        """An arm of the stack's base; no digest means the bare base."""
        return Arm(
            version=version,
            role=role,
            share=share,
            digest=digest or self.base_digest,
            base_digest=self.base_digest,
            adapter_digest=digest,
        )

    async def put_route(self, task: str, *arms: Arm, **options: Any) -> Route:
        """Write the route of a task as the registry would."""
        self.generation += 1
        values = {"salt": "salt", "max_tokens": 16, **options}
        route = Route(tenant="default", task=task, generation=self.generation, arms=arms, **values)
        await self.linked(lambda link: kv_put(link, ROUTES, task_key("default", task), route))
        return route

    async def _fill(self) -> None:
        objects = self.objects()
        await objects.ensure_bucket()
        self.base_digest = await objects.put_tree(self.base, kind="base")

        async def keys(link: NatsLink) -> None:
            await apply(link.js)
            for clear, role in KEYS_IN_CLEAR.items():
                digest = hashlib.sha256(clear.encode()).hexdigest()
                key = ApiKey(key_hash=digest, name=clear, tenant="default", roles=(role,))
                await kv_put(link, KEYS, digest, key)

        await self.linked(keys)

    def close(self) -> None:
        statuses = [service.stop() for service in (self.gateway, self.engine)]
        self.nats.stop()
        self.s3.stop()
        assert statuses == [0, 0], "a process that is told to stop does so in good order"


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack, with an engine that is ready: starting one takes its time, so all tests share it."""
    made = Stack(tmp_path_factory.mktemp("serving"))
    try:
        made.engine.start()
        made.gateway.start()
        made.gateway.wait_ready()
        made.engine.wait_ready()
        yield made
    finally:
        made.close()


@pytest_asyncio.fixture
async def fresh_task(stack: Stack) -> AsyncIterator[str]:
    """A task name of the test's own; its route is taken away afterwards, so that the engine lets go of its adapters."""
    task = f"task-{os.urandom(4).hex()}"
    yield task
    if stack.nats.running:
        await stack.linked(lambda link: kv_put(link, ROUTES, task_key("default", task), None))


def rewrite(file: Path, **changes: Any) -> None:
    """Change fields of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
