"""The registry as a process: killed, alone, beside itself, and after the broker or the database lost its memory."""

import asyncio
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest_asyncio
from nats.errors import Error as NatsError

from libs.artifacts import ObjectStore
from libs.contracts.commands import BuildDataset, EvaluateModel, TrainModel
from libs.contracts.envelope import Event, envelop
from libs.contracts.estimates import Verdict
from libs.contracts.events import RolloutChanged, TurnState
from libs.contracts.routes import ApiKey, Route
from libs.contracts.stubs.pawl.registry.v1 import registry_pb2 as pb
from libs.contracts.stubs.pawl.registry.v1.registry_pb2_grpc import RegistryServiceStub
from libs.contracts.subjects import COMMANDS, ENGINES, EVENTS, KEYS, ROUTES
from libs.eventing.apply import apply
from libs.eventing.connection import NatsLink
from libs.eventing.kv import kv_get, kv_put
from libs.eventing.publish import publish
from libs.runtime.grpc_client import channel
from libs.testing.servers import NatsServer, S3Server, free_port
from libs.testing.wait import eventually
from services.registry.domain.state import Trigger, Turn
from services.registry.tests.world import (
    START,
    TRACE,
    assessment,
    built,
    engine,
    imported,
    report,
    segment,
    spec_of,
    trained,
)

KEY = hashlib.sha256(b"secret").hexdigest()


class Process:
    """`python -m services.registry` with everything it needs; what it says on stderr is kept."""

    def __init__(self, home: Path, nats: NatsServer, s3: S3Server, bucket: str) -> None:
        self.home, self.nats = home, nats
        self.grpc_port, self.health_port = free_port(), free_port()
        self.keys = home / "keys.json"
        self.keys.write_text(json.dumps([{"name": "shop", "key_hash": KEY, "tenant": "default", "roles": ["client"]}]))
        self.log = home / "registry.log"
        self.env = {
            "PATH": os.environ["PATH"],
            "PAWL_NATS_URL": nats.url,
            "PAWL_S3_ENDPOINT": s3.endpoint,
            "PAWL_S3_ACCESS_KEY": s3.access_key,
            "PAWL_S3_SECRET_KEY": s3.secret_key,
            "PAWL_S3_BUCKET": bucket,
            "PAWL_REGISTRY_STATE_DIR": str(home / "state"),
            "PAWL_REGISTRY_GRPC_PORT": str(self.grpc_port),
            "PAWL_REGISTRY_HEALTH_PORT": str(self.health_port),
            "PAWL_REGISTRY_KEYS": str(self.keys),
            "PAWL_REGISTRY_TICK_SECONDS": "0.1",
        }
        self.popen: subprocess.Popen[bytes] | None = None
        self._http = httpx.AsyncClient(trust_env=False)
        self._channel = channel(f"127.0.0.1:{self.grpc_port}")
        self.rpc = RegistryServiceStub(self._channel)

    async def start(self, *, ready: bool = True) -> None:
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(  # noqa: ASYNC220 - a fork in a test may block it
                [sys.executable, "-m", "services.registry"], env=self.env, stderr=log
            )
        await eventually(self.ready if ready else self.alive, timeout=30)

    def kill(self) -> None:
        assert self.popen is not None
        self.popen.kill()
        self.popen.wait(10)

    async def stop(self) -> int:
        assert self.popen is not None
        self.popen.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.popen.wait, 15)

    async def close(self) -> None:
        await self._channel.close()
        await self._http.aclose()
        if self.popen is not None and self.popen.poll() is None:
            self.kill()

    async def alive(self) -> bool:
        return await self._probe("livez") is not None

    async def ready(self) -> bool:
        told = await self._probe("readyz")
        return told is not None and bool(told["ready"])

    async def failing(self) -> dict[str, str]:
        told = await self._probe("readyz")
        return dict(told["failing"]) if told else {}

    async def _probe(self, page: str) -> dict[str, Any] | None:
        assert self.popen is not None
        assert self.popen.poll() is None, self.log.read_text()[-3000:]
        try:
            answer = await self._http.get(f"http://127.0.0.1:{self.health_port}/{page}")
            return dict(answer.json())
        except httpx.TransportError:
            return None

    async def turn(self) -> pb.Turn | None:
        try:
            turns = (await self.rpc.ListTurns(pb.ListTurnsRequest(task="triage"))).turns
        except grpc.aio.AioRpcError:
            return None
        return turns[-1] if turns else None


class Town:
    """The process, its broker, and a link to speak to it as the other services do."""

    def __init__(self, process: Process, link: NatsLink, base: str) -> None:
        self.process, self.link, self.base = process, link, base

    async def apply(self, **changes: Any) -> pb.ApplyTaskResponse:
        spec = spec_of(**changes).model_dump_json()
        return await self.process.rpc.ApplyTask(pb.ApplyTaskRequest(spec_json=spec, base_digest=self.base, by="ada"))

    async def say(self, fact: Event) -> None:
        await publish(self.link.js, envelop(fact, source="test", traceparent=TRACE))

    async def route(self) -> Route | None:
        entry = await kv_get(self.link, ROUTES, "default.triage")
        return Route.model_validate_json(entry.value) if entry.value else None

    async def keys(self) -> ApiKey | None:
        entry = await kv_get(self.link, KEYS, KEY)
        return ApiKey.model_validate_json(entry.value) if entry.value else None

    async def command(self, model: type[Any]) -> Any:
        async def sent() -> Any:
            info = await self.link.js.stream_info(COMMANDS, subjects_filter=model.subject)
            if not (info.state.subjects or {}).get(model.subject):
                return None
            message = await self.link.js.get_last_msg(COMMANDS, model.subject)
            return model.model_validate_json(message.data or b"")

        return await eventually(sent, timeout=20)

    async def beat(self, *digests: str) -> None:
        """An engine that serves the digests, until cancelled."""
        while True:
            report = engine(*digests, at=datetime.now(UTC)).model_copy(update={"base_digest": self.base})
            await kv_put(self.link, ENGINES, "e1", report)
            await asyncio.sleep(1)

    async def count(self, subject: str, stream: str = EVENTS) -> int:
        info = await self.link.js.stream_info(stream, subjects_filter=subject)
        return int((info.state.subjects or {}).get(subject, 0))


@pytest_asyncio.fixture
async def town(tmp_path: Path, private_nats: NatsServer, s3_server: S3Server) -> AsyncIterator[Town]:
    link = NatsLink(private_nats.url, "test", on_closed=lambda: None)
    await link.connect()
    await apply(link.js)
    bucket = f"registry-{uuid.uuid4().hex[:8]}"
    objects = ObjectStore(s3_server.endpoint, s3_server.access_key, s3_server.secret_key, bucket, s3_server.region)
    await objects.ensure_bucket()
    base = await objects.put_bytes(b"base", kind="base")
    process = Process(tmp_path, private_nats, s3_server, bucket)
    yield Town(process, link, base)
    await process.close()
    await link.close()


def as_turn(turn: pb.Turn, **known: Any) -> Turn:
    """What the facts of the other services need to know of a turn."""
    values: dict[str, Any] = {
        "turn_id": turn.turn_id, "trigger": Trigger(turn.trigger), "state": TurnState(turn.state),
        "traceparent": turn.traceparent, "watermark": 1, "opened_at": START, "dataset_number": turn.dataset_number,
        "run_id": turn.run_id, "report_id": turn.report_id, "version": turn.version,
    }  # fmt: skip
    return Turn(**values | known)


async def test_killed_in_the_middle_of_a_fact_again_and_again_the_turn_still_ends_once(town: Town) -> None:
    process = town.process
    await process.start()
    await town.apply(rollout={"canary": {"steps": [50, 100]}})

    async def then(state: str, share: float | None = None, *, killed: bool = False) -> Any:
        if killed:
            process.kill()
            await process.start(ready=False)

        async def there() -> Any:
            turn, route = await process.turn(), await town.route()
            arm = route.version(1) if route is not None else None
            right = share is None or (arm is not None and arm.share == share)
            return turn if turn is not None and turn.state == state and right else None

        return await eventually(there, timeout=30)

    await town.say(segment(1, example=50))
    await town.say(imported(1))
    turn = await then("curating")
    dataset = built(as_turn(turn))
    await town.say(dataset)
    turn = await then("training")
    await town.command(TrainModel)
    done = trained(as_turn(turn, dataset_digest=dataset.digest), 1, base=town.base)
    await town.say(done)
    beating = asyncio.create_task(town.beat(done.adapter_digest))
    turn = await then("evaluating", killed=True)
    await town.command(EvaluateModel)
    await town.say(report(as_turn(turn), Verdict.PASS))
    turn = await then("shadow")
    for state, share in (("canary", 0.5), ("promoted", 1.0)):
        route = await town.route()
        assert route is not None
        await town.say(assessment(as_turn(turn, generation=route.generation), Verdict.PASS, datetime.now(UTC)))
        turn = await then(state, share, killed=state == "canary")
    beating.cancel()
    assert [step.state for step in turn.steps] == [
        "curating", "training", "loading", "evaluating", "shadow", "canary", "promoted",
    ]  # fmt: skip
    assert [await town.count(model.subject, COMMANDS) for model in (BuildDataset, TrainModel, EvaluateModel)] == [1] * 3
    assert await town.count(RolloutChanged.subject) == 3
    assert await process.stop() == 0


async def test_orders_are_taken_without_a_broker_and_told_to_one_that_lost_its_memory(town: Town) -> None:
    process, nats = town.process, town.process.nats
    await process.start()
    await town.apply()
    before = await eventually(town.route)
    assert before is not None
    assert await process.stop() == 0
    nats.stop()
    shutil.rmtree(nats.home / "jetstream")

    await process.start(ready=False)
    tasks = await eventually(lambda: _tasks(town), timeout=20)
    assert [task.name for task in tasks] == ["triage"]
    assert (await town.apply(system="Be brief.")).changed
    assert "nats" in await process.failing()

    nats.start()

    async def applied() -> bool:
        try:
            await apply(town.link.js)
        except NatsError:
            return False  # it listens before its storage is there
        return True

    await eventually(applied, timeout=30)
    await eventually(process.ready, timeout=60)
    after, key = await eventually(town.route), await eventually(town.keys)
    assert after is not None
    assert key is not None
    assert (after.generation, after.system, after.salt) == (2, "Be brief.", before.salt)
    assert (key.name, key.roles) == ("shop", ("client",))


async def test_a_second_replica_on_the_same_file_is_refused_in_one_line(town: Town) -> None:
    await town.process.start()
    second = {**town.process.env, "PAWL_REGISTRY_GRPC_PORT": "0", "PAWL_REGISTRY_HEALTH_PORT": "0"}
    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "services.registry"], env=second, capture_output=True, text=True
    )
    assert ended.returncode == 2
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error:")]
    assert "SQLite means one replica" in line


async def _tasks(town: Town) -> list[pb.Task]:
    try:
        return list((await town.process.rpc.ListTasks(pb.ListTasksRequest())).tasks)
    except grpc.aio.AioRpcError:
        return []
