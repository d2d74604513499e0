"""Training as a Kubernetes Job set: a Kubeflow Trainer v2 `TrainJob` per attempt, over a volume that both mount.

The first of its processes calls back at the door; all of them read their job from the run's directory, which has to be
the same path in the trainer's pod and in theirs (a ReadWriteMany volume that the training runtime mounts).
"""

import asyncio
import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from libs.contracts.errors import FailedPrecondition, InvalidInput, Unavailable
from libs.telemetry import get_logger
from services.trainer.clients.door import Door, Visit
from services.trainer.domain.protocol import Export, Job, Said, Stop, Survey, Sweep, Warm, said

log = get_logger(__name__)

GROUP = "trainer.kubeflow.org/v1alpha1"
_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_AUTHORITY = Path("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")
_LOOK_SECONDS = 2.0
_STARTS_IN = 3600.0
_GONE = 404
_RUN = "pawl/run"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where and how TrainJobs are made. `address` is where the door can be reached from their pods."""

    address: str
    namespace: str = "default"
    runtime: str = "torch-distributed"
    image: str = ""
    processes_per_node: int = 1
    resources: dict[str, str] = field(default_factory=dict)
    api: str = "https://kubernetes.default.svc"


class TrainJobs:
    """Launcher of TrainJobs.

    Args:
        cluster: Where.
        door: Where their first process calls back.
        transport: Of the HTTP client; None for the network.
    """

    def __init__(self, cluster: Cluster, door: Door, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._cluster = cluster
        self._door = door
        self._transport = transport

    async def take(self, wanted: tuple[str, ...] = (), processes: int = 1) -> "RemoteProcess":
        """One that waits for its job; nothing is made in the cluster before it has one."""
        return RemoteProcess(self._cluster, self._client(), self._door.expect(), processes, wanted)

    def _client(self) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {_TOKEN.read_text().strip()}"} if _TOKEN.is_file() else {}
        verify: Any = str(_AUTHORITY) if _AUTHORITY.is_file() else True
        return httpx.AsyncClient(
            base_url=self._cluster.api, headers=headers, verify=verify, transport=self._transport, timeout=30.0
        )


class RemoteProcess:
    """The processes of one attempt, somewhere in the cluster."""

    def __init__(
        self, cluster: Cluster, client: httpx.AsyncClient, visit: Visit, processes: int, wanted: tuple[str, ...]
    ) -> None:
        self._cluster = cluster
        self._client = client
        self._visit = visit
        self._processes = processes
        self._wanted = wanted
        self._name = ""
        self._reason = ""
        self._told: Path | None = None

    pid = 0

    async def give(self, job: Job | Survey | Export | Sweep) -> None:
        """Make the TrainJob and wait until its first process has called. Raises Unavailable when it ends before."""
        if not isinstance(job, Job):
            raise InvalidInput("only runs are trained in the cluster; all else is done beside the service")
        told = Path(job.workspace) / f"job-{self._visit.token[:12]}.json"
        self._told = told
        door = {"address": self._cluster.address, "token": self._visit.token, "wanted": self._wanted}
        await asyncio.to_thread(_write, told, {"job": job.model_dump(mode="json"), "door": door})
        # What an attempt before this one may have left behind has no right to speak any more.
        await self._call("DELETE", self._path(), params={"labelSelector": f"{_RUN}={_label(job.run_id)}"})
        body = manifest(self._cluster, job.run_id, str(told), self._processes)
        made = await self._call("POST", self._path(), json=body)
        self._name = str(made["metadata"]["name"])
        log.info("train job made", run_id=job.run_id, name=self._name, processes=self._processes)
        given_up = time.monotonic() + _STARTS_IN
        while not self._visit.here:
            if await self._ended():
                raise Unavailable(f"TrainJob {self._name} ended before it began: {self._reason}", reason="CHILD_GONE")
            if time.monotonic() > given_up:
                raise Unavailable(f"TrainJob {self._name} was not started in an hour", reason="NOT_SCHEDULED")
            await asyncio.sleep(_LOOK_SECONDS)

    async def words(self) -> AsyncIterator[Said]:
        """What the first process says, until it is gone."""
        async for message in self._visit.messages():
            word = said.validate_python(message)
            if not isinstance(word, Warm):
                yield word

    async def ask_to_stop(self) -> None:
        """Ask for a checkpoint; one that is gone does not mind."""
        with contextlib.suppress(Unavailable):
            await self._visit.send(Stop().model_dump(mode="json"))

    async def end(self) -> int:
        """Delete the TrainJob and with it every pod; the cluster may be away, and then deletes nothing now."""
        try:
            if self._name:
                with contextlib.suppress(Unavailable, FailedPrecondition):
                    await self._call("DELETE", f"{self._path()}/{self._name}?propagationPolicy=Foreground")
        finally:
            self._visit.close()
            if self._told is not None:
                self._told.unlink(missing_ok=True)
            await self._client.aclose()
        return 0

    async def exit_status(self) -> int:
        """0 when the TrainJob is complete, else 1, with its reason to be read as its last words."""
        with contextlib.suppress(Unavailable, FailedPrecondition):
            await self._ended()
        return 0 if self._reason == "Complete" else 1

    def ran_out_of_memory(self) -> bool:
        """Whether the kubelet ended a container for its memory."""
        return "OOMKilled" in self._reason

    def last_words(self) -> str:
        """Why it ended, as the cluster tells it."""
        return self._reason

    async def _ended(self) -> bool:
        if not self._name:
            return False
        held = await self._call("GET", f"{self._path()}/{self._name}")
        conditions = {each["type"]: each for each in (held.get("status") or {}).get("conditions") or []}
        for kind in ("Failed", "Complete"):
            if conditions.get(kind, {}).get("status") == "True":
                told = [kind, conditions[kind].get("message", ""), *(await self._terminations())]
                self._reason = "Complete" if kind == "Complete" else ": ".join(part for part in told if part)[:300]
                return True
        return False

    async def _terminations(self) -> list[str]:
        selector = f"jobset.sigs.k8s.io/jobset-name={self._name}"
        path = f"/api/v1/namespaces/{self._cluster.namespace}/pods"
        pods = await self._call("GET", path, params={"labelSelector": selector})
        states = [
            (status.get("state") or {}).get("terminated") or {}
            for pod in pods.get("items", [])
            for status in (pod.get("status") or {}).get("containerStatuses") or []
        ]
        return sorted(
            {f"{state['reason']} {state.get('message', '')}".strip() for state in states if "reason" in state}
        )

    def _path(self) -> str:
        return f"/apis/{GROUP}/namespaces/{self._cluster.namespace}/trainjobs"

    async def _call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        try:
            answer = await self._client.request(method, path, **more)
        except httpx.TransportError as error:
            raise Unavailable(f"the cluster does not answer: {error}", reason="CLUSTER_AWAY") from error
        if answer.status_code == _GONE and method == "DELETE":
            return {}
        if answer.status_code in (408, 409, 425, 429) or answer.status_code >= 500:
            raise Unavailable(f"the cluster answers {answer.status_code} for now", reason="CLUSTER_AWAY")
        if answer.is_error:
            raise FailedPrecondition(
                f"the cluster refuses {method} {path.partition('?')[0]} with {answer.status_code}: "
                f"{answer.text[:200]}; the trainer's service account needs create, get, delete and deletecollection on "
                "trainjobs",
                reason="CLUSTER_REFUSES", field="launcher",
            )  # fmt: skip
        body: dict[str, Any] = answer.json()
        return body


def manifest(cluster: Cluster, run_id: str, told: str, processes: int) -> dict[str, Any]:
    """The TrainJob of a run of so many processes, which read their job from the file `told`."""
    nodes = math.ceil(processes / cluster.processes_per_node)
    each = math.ceil(processes / nodes)
    if nodes * each != processes:
        raise FailedPrecondition(
            f"recipe.processes = {processes} is no multiple of the {cluster.processes_per_node} that a node has",
            reason="PROCESSES_UNEVEN", field="recipe.processes",
        )  # fmt: skip
    readable = "".join(letter for letter in run_id.lower() if letter.isalnum() or letter == "-").strip("-")
    trainer: dict[str, Any] = {
        "numNodes": nodes,
        "numProcPerNode": each,
        "command": ["torchrun", "-m", "services.trainer.compute.rank"],
        "env": [{"name": "PAWL_RANK_JOB", "value": told}],
    }
    if cluster.image:
        trainer["image"] = cluster.image
    if cluster.resources:
        trainer["resourcesPerNode"] = {"requests": dict(cluster.resources), "limits": dict(cluster.resources)}
    labels = {"app.kubernetes.io/managed-by": "pawl", _RUN: _label(run_id)}
    return {
        "apiVersion": GROUP,
        "kind": "TrainJob",
        "metadata": {"generateName": f"pawl-{readable[:40]}-", "labels": labels},
        "spec": {"runtimeRef": {"name": cluster.runtime}, "trainer": trainer},
    }


def _label(run_id: str) -> str:
    """A run's id as the value of a label may be."""
    return hashlib.sha256(run_id.encode()).hexdigest()[:32]


def _write(file: Path, value: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # The token in it lets its bearer speak for the run.
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        json.dump(value, opened)
