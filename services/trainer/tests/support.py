"""What the trainer's tests share: a service process of their own, its facts, and inputs to train on."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from libs.artifacts import ObjectStore
from libs.contracts.commands import TrainModel
from libs.contracts.envelope import envelop
from libs.contracts.ids import new_id
from libs.contracts.routes import RunState, RunWish
from libs.contracts.subjects import RUNS
from libs.contracts.task import TaskSpec, recipe_of
from libs.eventing.connection import NatsLink
from libs.eventing.kv import kv_put
from libs.eventing.publish import publish
from libs.telemetry import new_traceparent
from libs.testing.servers import NatsServer, S3Server, free_port
from libs.testing.wait import eventually


def write_dataset(directory: Path, rows: int = 200, *, words: int = 12) -> Path:
    """A dataset version's files: count from a number, in words of digits."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = []
    for row in range(rows):
        asked = " ".join(str((row * 7 + at) % 97) for at in range(1 + row % words))
        messages = [{"role": "user", "content": f"add {asked}"}, {"role": "assistant", "content": f"sum {row % 13}"}]
        lines.append(json.dumps({"row_id": f"row-{row}", "messages": messages}))
    (directory / "train.jsonl").write_text("\n".join(lines) + "\n")
    return directory


@dataclass(slots=True)
class Fact:
    """One fact of the trainer."""

    type: str
    data: dict[str, Any]
    headers: dict[str, str]


class Trainer:
    """A real trainer process with a broker and object storage."""

    def __init__(self, home: Path, nats: NatsServer, s3: S3Server, bucket: str) -> None:
        self.home = home
        self.health_port = free_port()
        self.grpc_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {
            **os.environ,
            "PAWL_NATS_URL": nats.url,
            "PAWL_S3_ENDPOINT": s3.endpoint,
            "PAWL_S3_ACCESS_KEY": s3.access_key,
            "PAWL_S3_SECRET_KEY": s3.secret_key,
            "PAWL_S3_BUCKET": bucket,
            "PAWL_TRAINER_STATE_DIR": str(home / "state"),
            "PAWL_TRAINER_GRPC_PORT": str(self.grpc_port),
            "PAWL_TRAINER_HEALTH_PORT": str(self.health_port),
            "PAWL_TRAINER_PRECISION": "fp32",
            "PAWL_TRAINER_THREADS": "1",
        }

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.home / "trainer.log").read_text()

    def start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "trainer.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.trainer"], env=self._environment, stdout=log, stderr=log
            )

    async def ready(self, timeout: float = 90.0) -> None:
        async with httpx.AsyncClient() as client:

            async def answers() -> bool:
                assert self._process is not None
                assert self._process.poll() is None, self.log
                try:
                    return (await client.get(f"http://127.0.0.1:{self.health_port}/readyz")).status_code == 200
                except httpx.HTTPError:
                    return False

            await eventually(answers, timeout)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)

    def terminate(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)


class Bench:
    """Inputs, commands and facts of one test module."""

    def __init__(self, link: NatsLink, objects: ObjectStore, base: Path, dataset: Path) -> None:
        self.link = link
        self.objects = objects
        self._base = base
        self._dataset = dataset
        self._facts: list[Fact] = []
        self._read = 0

    async def command(self, *, dataset: Path | None = None, continue_from: str = "", **recipe: Any) -> TrainModel:
        """A command on uploaded inputs; nothing is sent."""
        base_digest = await self.objects.put_tree(self._base, kind="base", metadata={})
        dataset_digest = await self.objects.put_tree(dataset or self._dataset, kind="dataset", metadata={})
        full = {"learning_rate": 3e-3, "rank": 8, "batch_size": 8, "checkpoint_steps": 20, "max_length": 256, **recipe}
        return TrainModel(
            tenant="default",
            task="sums",
            turn_id=new_id("turn"),
            spec=TaskSpec(task="sums", base="base", recipe=recipe_of(**full)),
            run_id=new_id("run"),
            dataset_digest=dataset_digest,
            base_digest=base_digest,
            continue_from=continue_from,
        )

    async def send(self, command: TrainModel) -> str:
        """Publish the command as the registry would; returns the trace's traceparent."""
        traceparent = new_traceparent()
        envelope = envelop(
            command, source="pawl/registry", turn_id=command.turn_id, task=command.task, traceparent=traceparent
        )
        await publish(self.link.js, envelope)
        return traceparent

    async def wish(self, command: TrainModel, wish: RunWish, reason: str = "") -> None:
        state = RunState(run_id=command.run_id, wish=wish, by="ann", reason=reason)
        await kv_put(self.link, RUNS, command.run_id, state)

    async def facts(self, run_id: str) -> list[Fact]:
        """All facts of a run so far, in order."""
        last = (await self.link.js.stream_info("EVT")).state.last_seq
        while self._read < last:
            message = await self.link.js.get_msg("EVT", self._read + 1)
            headers = {name.lower(): value for name, value in (message.headers or {}).items()}
            self._facts.append(Fact(headers["ce-type"].split(".")[3], json.loads(message.data or b"{}"), headers))
            self._read += 1
        return [fact for fact in self._facts if fact.data.get("run_id") == run_id]

    async def until(
        self, run_id: str, kind: str, when: Callable[[dict[str, Any]], bool] = lambda _: True, timeout: float = 150.0
    ) -> Fact:
        """The first fact of that kind that `when` holds for."""

        async def there() -> Fact | None:
            facts = await self.facts(run_id)
            for fact in facts:
                if fact.type == "failed" and kind != "failed":
                    raise RuntimeError(f"run failed: {fact.data['reason']}")
                if fact.type == kind and when(fact.data):
                    return fact
            return None

        found = await eventually(there, timeout, every=0.1, message=f"{kind} of {run_id}")
        assert found is not None
        return found
