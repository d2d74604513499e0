"""A run trained elsewhere in the cluster: the same words through the door, nothing left behind, strangers sent away."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from pydantic import ValidationError

from libs.contracts.errors import FailedPrecondition, InvalidInput, Unavailable
from libs.contracts.task import recipe_of
from services.trainer.clients.door import Door
from services.trainer.clients.trainjob import Cluster, RemoteProcess, TrainJobs, manifest
from services.trainer.domain.protocol import Export, Job
from services.trainer.settings import TrainerSettings
from services.trainer.tests.test_training import DIGEST

ELSEWHERE = {
    "state_dir": "/state", "health_port": 1, "grpc_port": 2, "nats_url": "nats://n:1", "s3_endpoint": "http://s:1",
    "s3_access_key": "a", "s3_secret_key": "b", "s3_bucket": "c", "database_url": "sqlite+aiosqlite:///x",
}  # fmt: skip


class FakeCluster:
    """Runs a TrainJob's first process on this machine, as torchrun would, and tells what became of it."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.status: dict[str, Any] = {}
        self.pods: list[dict[str, Any]] = []
        self.answer = 200
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.answer != 200:
            return httpx.Response(self.answer, text="no")
        if request.method == "DELETE":
            self.deleted.append(str(request.url.raw_path, "ascii"))
            return httpx.Response(404 if "propagation" in self.deleted[-1] and not self.made else 200, json={})
        if request.method == "POST":
            self.made.append(json.loads(request.content))
            if not self.status:
                self._start(self.made[-1]["spec"]["trainer"])
            return httpx.Response(201, json={"metadata": {"name": "pawl-run-1-x"}})
        if request.url.path.endswith("/pods"):
            return httpx.Response(200, json={"items": self.pods})
        return httpx.Response(200, json={"status": self.status})

    def _start(self, trainer: dict[str, Any]) -> None:
        told = {each["name"]: each["value"] for each in trainer["env"]}
        self.process = subprocess.Popen(
            [sys.executable, *trainer["command"][1:]], env={**os.environ, **told, "RANK": "0", "WORLD_SIZE": "1"}
        )


@pytest_asyncio.fixture
async def door() -> AsyncIterator[Door]:
    opened = Door("127.0.0.1", 0)
    await opened.start()
    yield opened
    await opened.stop()


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


async def launched(cluster: FakeCluster, door: Door) -> RemoteProcess:
    made = TrainJobs(Cluster(address=f"127.0.0.1:{door.port}"), door, transport=httpx.MockTransport(cluster))
    return await made.take()


def job(base: Path, dataset: Path, workspace: Path, steps: int = 4) -> Job:
    recipe = recipe_of(rank=8, batch_size=8, max_steps=steps, epochs=99, checkpoint_steps=10_000)
    return Job(
        run_id="Run_1", base=str(base), base_digest=DIGEST, dataset=str(dataset), dataset_digest=DIGEST,
        workspace=str(workspace), recipe=recipe, device="cpu", precision="fp32", threads=1,
    )  # fmt: skip


async def test_a_run_in_the_cluster_says_what_one_on_this_machine_says_and_leaves_nothing(
    base: Path, dataset: Path, tmp_path: Path, cluster: FakeCluster, door: Door
) -> None:
    process = await launched(cluster, door)
    await process.give(job(base, dataset, tmp_path / "run"))
    kinds = [word.kind async for word in process.words()]
    assert kinds[0] == "ready"
    assert kinds[-1] == "finished"
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()
    (told,) = (tmp_path / "run").glob("job-*.json")
    assert told.stat().st_mode & 0o077 == 0
    assert "token" not in json.dumps(cluster.made)
    await process.end()
    assert not told.exists()
    assert cluster.deleted[-1].startswith(
        "/apis/trainer.kubeflow.org/v1alpha1/namespaces/default/trainjobs/pawl-run-1-x"
    )
    assert "labelSelector" in cluster.deleted[0], "what an earlier attempt left goes first"


async def test_processes_whose_service_is_gone_write_a_checkpoint_and_end(
    base: Path, dataset: Path, tmp_path: Path, cluster: FakeCluster, door: Door
) -> None:
    process = await launched(cluster, door)
    await process.give(job(base, dataset, tmp_path / "run", steps=5000))
    async for word in process.words():
        if word.kind == "progress" and word.step > 2:
            break
    process._visit.close()
    assert cluster.process is not None
    assert await asyncio.to_thread(cluster.process.wait, 60) == 0
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))
    await process.end()


async def test_a_job_that_ends_before_it_calls_tells_why(
    base: Path, dataset: Path, tmp_path: Path, cluster: FakeCluster, door: Door
) -> None:
    cluster.status = {"conditions": [{"type": "Failed", "status": "True", "message": "backoff limit"}]}
    killed = {"state": {"terminated": {"reason": "OOMKilled"}}}
    cluster.pods = [{"status": {"containerStatuses": [killed]}}]
    process = await launched(cluster, door)
    with pytest.raises(Unavailable, match="Failed: backoff limit: OOMKilled"):
        await process.give(job(base, dataset, tmp_path / "run"))
    assert process.ran_out_of_memory()
    assert await process.exit_status() == 1
    await process.end()


@pytest.mark.parametrize(("status", "kind"), [(403, FailedPrecondition), (503, Unavailable)])
async def test_a_cluster_that_refuses_ends_the_run_and_one_that_is_away_does_not(
    base: Path, dataset: Path, tmp_path: Path, cluster: FakeCluster, door: Door, status: int, kind: type[Exception]
) -> None:
    cluster.answer = status
    process = await launched(cluster, door)
    with pytest.raises(kind):
        await process.give(job(base, dataset, tmp_path / "run"))
    await process.end()


async def test_only_runs_go_to_the_cluster(cluster: FakeCluster, door: Door) -> None:
    process = await launched(cluster, door)
    with pytest.raises(InvalidInput):
        await process.give(Export(base="b", adapter="a", destination="d"))
    await process.end()


@pytest.mark.parametrize("greeting", [b'{"token": "guess"}\n', b"GET / HTTP/1.1\r\n\r\n", b"\xff\n"])
async def test_a_caller_without_a_token_is_sent_away(door: Door, greeting: bytes) -> None:
    visit = door.expect()
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(greeting)
    assert await reader.read() == b""
    assert not visit.here
    writer.close()
    visit.close()


def test_processes_are_spread_evenly_over_nodes_or_refused() -> None:
    cluster = Cluster(address="t:1", processes_per_node=8, resources={"nvidia.com/gpu": "8"}, image="trainer:1")
    spec = manifest(cluster, "Run_1/ä", "/state/job.json", 16)["spec"]
    assert spec["runtimeRef"] == {"name": "torch-distributed"}
    assert (spec["trainer"]["numNodes"], spec["trainer"]["numProcPerNode"]) == (2, 8)
    assert spec["trainer"]["resourcesPerNode"]["limits"] == {"nvidia.com/gpu": "8"}
    assert manifest(cluster, "r", "/j", 4)["spec"]["trainer"]["numProcPerNode"] == 4
    with pytest.raises(FailedPrecondition, match=r"recipe.processes = 9 is no multiple"):
        manifest(cluster, "r", "/j", 9)


def test_a_launcher_that_pods_could_not_call_back_is_refused_at_the_start() -> None:
    with pytest.raises(ValidationError, match="PAWL_TRAINER_TRAINJOB_ADDRESS"):
        TrainerSettings.model_validate({**ELSEWHERE, "launcher": "trainjob"})
    assert TrainerSettings.model_validate({**ELSEWHERE, "launcher": "trainjob", "trainjob_address": "trainer:7710"})
