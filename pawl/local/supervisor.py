"""The supervisor: brings the stack up in order, keeps every process running, writes what it sees, takes it down."""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import IO, Any

import httpx
import psutil

from libs.artifacts import ObjectStore
from libs.contracts.errors import FailedPrecondition, PawlError, ResourceExhausted, Unavailable
from libs.runtime.binaries import binary
from pawl.local import engines, specs
from pawl.local.layout import Layout, write_atomically
from pawl.local.process import ManagedProcess
from pawl.local.state import StackState, is_free, write_broker, write_keys

PROBE_SECONDS = 0.5
READY_SECONDS = 120.0
BROKER_SECONDS = 5.0
"""How long a part of a stack tries to reach a broker that it did not start itself."""
END_SECONDS = 20.0
LEAST_FREE_BYTES = 64 << 20
"""Below it databases and broker would fail one after the other, each in its own words."""
DISUSE_SECONDS = 5.0
"""How often bases are looked at that no route names any more."""


class Supervisor:
    """Runs one local stack. `only` restricts it to some processes (by name; `engine` means all engines)."""

    def __init__(
        self, layout: Layout, *, only: Iterable[str] = (), memory_bytes: int, say: Callable[[str], None]
    ) -> None:
        self.layout = layout
        self.only = frozenset(only)
        self.memory_bytes = memory_bytes
        self.say = say
        self.state = StackState.load(layout)
        self.processes: dict[str, ManagedProcess] = {}
        self.refused: dict[str, str] = {}
        self.left_alone: list[dict[str, Any]] = []
        """Processes of an earlier supervisor that `only` leaves running; still this stack's to end one day."""
        self.stopping = asyncio.Event()
        self._lock: IO[str] | None = None
        self._shown: dict[str, str] = {}
        self._written = ""

    def lock(self) -> None:
        """Become the one supervisor of this directory, or say which process already is, or that the disk is full."""
        self.layout.prepare()
        free = shutil.disk_usage(self.layout.root).free
        if free < LEAST_FREE_BYTES and not self.only:  # what only serves writes next to nothing
            raise ResourceExhausted(
                f"the disk of {self.layout.root} is full: {free >> 20} MiB are free, {LEAST_FREE_BYTES >> 20} needed"
            )
        self._lock = self.layout.lock.open("a+")
        if not _taken(self._lock):
            self._lock.seek(0)
            raise FailedPrecondition(f"a stack is already up in {self.layout.root} (pid {self._lock.read().strip()})")
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()

    async def run(self, claims: dict[str, tuple[int, str]] | None = None) -> None:
        """Bring everything up, supervise until `stopping`, take everything down."""
        remembered = _remembered(self.layout)
        ours = frozenset(self.state.ports.values()) if remembered else frozenset[int]()
        for name, (port, option) in (claims or {}).items():
            self.state.claim(name, port, option, taken_by_us=ours)
        specs.reserve_ports(self.state, ours)
        specs.shared_environment(self.layout, self.state)  # makes the secrets on the first start
        write_keys(self.layout, self.state)
        write_broker(self.layout, self.state)
        self.state.save(self.layout)
        async with httpx.AsyncClient(timeout=3.0, trust_env=False) as client:
            try:
                await self._bring_up(client, remembered)
                await self._supervise(client)
            finally:
                await self._take_down()

    def _wanted(self, name: str) -> bool:
        return not self.only or name in self.only or (name.startswith("engine-") and "engine" in self.only)

    def _launch(self, spec: specs.ProcessSpec, remembered: dict[str, dict[str, Any]]) -> None:
        if not self._wanted(spec.name):
            return
        process = ManagedProcess(spec)
        self.processes[spec.name] = process
        known = remembered.pop(spec.name, None)
        if known is None or not process.adopt(known["pid"], known["create_time"]):
            if known is not None:
                end_processes([known])  # another command line, or half dead: never two on the same state
            process.start()
        self._publish()

    async def _bring_up(self, client: httpx.AsyncClient, remembered: dict[str, dict[str, Any]]) -> None:
        nats_server, rclone = binary("nats-server"), binary("rclone")
        self.layout.data("s3").mkdir(parents=True, exist_ok=True)
        for spec in specs.infrastructure(self.layout, self.state, nats_server, rclone):
            self._launch(spec, remembered)
        brought: list[str] = [name for name in ("nats", "s3") if name in self.processes]
        await self._until_healthy(client, brought)
        if "s3" in brought:
            await self._store().ensure_bucket()
        for name, argv, environment in specs.jobs(self.layout, self.state):
            # A part of the stack migrates for itself, each process its own schema.
            if not self.only or (name == specs.TOPOLOGY and "nats" in brought):
                await self._job(name, argv, environment)
        for name in specs.SERVICES:
            self._launch(specs.service(self.layout, self.state, name), remembered)
        for base_digest in list(self.state.bases):
            self._launch(specs.engine(self.layout, self.state, base_digest), remembered)
        self.state.save(self.layout)
        if self.only:
            self.left_alone = list(remembered.values())
            if "nats" not in brought:
                await self._bring_broker_up_to_date()
        else:
            end_processes(list(remembered.values()))

    async def _bring_broker_up_to_date(self) -> None:
        """Give a broker that runs already what this version's processes need; they serve without it if it is away."""
        if is_free(self.state.ports["nats"]):
            return
        argv, environment = next(job[1:] for job in specs.jobs(self.layout, self.state) if job[0] == specs.TOPOLOGY)
        try:
            await self._job(specs.TOPOLOGY, (*argv, "--wait", str(BROKER_SECONDS)), environment)
        except FailedPrecondition as error:
            self.say(f"! {error}")

    async def _supervise(self, client: httpx.AsyncClient) -> None:
        bases = asyncio.create_task(self._keep_engines()) if not self.only else None
        try:
            while not self.stopping.is_set():
                for process in list(self.processes.values()):
                    how = process.exited()
                    if how is not None and process.process is not None:
                        process.note_exit(how)
                    if process.process is None and time.monotonic() >= process.next_start:
                        process.start()
                        self._publish()
                await asyncio.gather(*(each.probe(client) for each in self.processes.values() if each.process))
                self._publish()
                if bases is not None and bases.done() and (failure := bases.exception()) is not None:
                    raise failure
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.stopping.wait(), PROBE_SECONDS)
        finally:
            if bases is not None:
                bases.cancel()
                await asyncio.gather(bases, return_exceptions=True)

    async def _keep_engines(self) -> None:
        named: asyncio.Queue[set[str]] = asyncio.Queue()
        watch = engines.WatchBases(
            specs.endpoints(self.state)["nats"],
            self.state.secret("nats_pawl"),
            named.put_nowait,
            refused=lambda: self.say("! the broker refuses the supervisor: new bases get no engine"),
        )
        await watch.start()
        disuse, now_named = engines.Disuse(), set[str]()
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    now_named = await asyncio.wait_for(named.get(), DISUSE_SECONDS)
                for base_digest in now_named - set(self.state.bases):
                    await self._admit(base_digest)
                for base_digest in disuse.over(self.state.bases, now_named, time.monotonic()):
                    await self._retire(base_digest)
        finally:
            await watch.stop()

    async def _admit(self, base_digest: str) -> None:
        store = self._store()
        needed = await engines.needed_bytes(store, base_digest)
        used = sum([await engines.needed_bytes(store, digest) for digest in self.state.bases])
        if used + needed > self.memory_bytes:
            wants, taken, budget = (size / engines.GIB for size in (needed, used, self.memory_bytes))
            reason = (
                f"an engine for base {base_digest[:19]} needs about {wants:.1f} GiB; "
                f"{taken:.1f} of the budget of {budget:.1f} GiB are taken (--memory-gib)"
            )
            if self.refused.get(base_digest) != reason:
                self.say(f"! {reason}")
            self.refused[base_digest] = reason
            return
        self.refused.pop(base_digest, None)
        self._launch(specs.engine(self.layout, self.state, base_digest), {})
        try:
            self.state.save(self.layout)
        except OSError as error:  # the engine serves all the same; the next start asks the routes again
            self.say(f"! cannot write {self.layout.state}: {error.strerror}")

    async def _retire(self, base_digest: str) -> None:
        """End the engine of a base that no route names any more, and forget what it kept: all of it can be fetched."""
        name = self.state.bases.pop(base_digest)
        self.state.save(self.layout)
        process = self.processes.pop(name, None)  # nobody starts it again
        if process is not None:
            await process.stop()
        await asyncio.to_thread(shutil.rmtree, self.layout.data(name), ignore_errors=True)
        self.say(f"{name:<18} --  no route names its base {base_digest[:19]} any more")

    def _store(self) -> ObjectStore:
        address = specs.endpoints(self.state)["s3"]
        access, secret = self.state.secret("s3_access_key"), self.state.secret("s3_secret_key")
        return ObjectStore(address, access, secret, specs.S3_BUCKET, "us-east-1")

    async def _job(self, name: str, argv: tuple[str, ...], environment: dict[str, str]) -> None:
        log = self.layout.log(name)
        job = await asyncio.create_subprocess_exec(
            *argv,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said, _ = await job.communicate()
        with contextlib.suppress(OSError), log.open("ab") as file:  # on a full disk the line below is what remains
            file.write(said)
        if job.returncode != 0:
            last = [f"status {job.returncode}", *said.decode(errors="replace").split("\n")]
            line = next(each.strip() for each in reversed(last) if each.strip())
            raise FailedPrecondition(f"the {name} job failed (see {log}): {line}")

    async def _until_healthy(self, client: httpx.AsyncClient, names: list[str]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            waiting = [self.processes[name] for name in names if not self.processes[name].healthy]
            if not waiting:
                return
            for process in waiting:
                await process.probe(client)
                if (how := process.exited()) is not None:
                    raise Unavailable(f"{process.spec.name} {how} while starting; see {process.spec.log}")
            if time.monotonic() > deadline or self.stopping.is_set():
                raise Unavailable(f"{waiting[0].spec.name} is not ready: {waiting[0].why}; see {waiting[0].spec.log}")
            await asyncio.sleep(0.05)

    def _publish(self) -> None:
        records = [process.record() for process in self.processes.values()]
        left_alone = [record for record in self.left_alone if _running(record)]
        supervisor = {
            "name": "supervisor",
            "pid": os.getpid(),
            "healthy": True,
            "log": str(self.layout.log("supervisor")),
            "why": "; ".join(self.refused.values()),
            "restarts": 0,
            "create_time": psutil.Process().create_time(),
            "argv": sys.argv,
        }
        self._write_status([supervisor, *records, *left_alone])
        for record in records:
            line = "healthy" if record["healthy"] else record["why"]
            if self._shown.get(record["name"]) != line:
                self._shown[record["name"]] = line
                self.say(f"{record['name']:<18} {'up' if record['healthy'] else '..'}  {line}"[:200])

    def _write_status(self, records: list[dict[str, Any]]) -> None:
        text = json.dumps({"processes": records}, indent=1) + "\n"
        if text == self._written:
            return
        try:
            write_atomically(self.layout.status, text)
            self._written = text
        except OSError as error:  # a full disk must not take down what still serves; the next look tries again
            trouble = f"cannot write {self.layout.status}: {error.strerror}"
            if self._shown.get("status") != trouble:
                self.say(f"! {trouble}")
            self._shown["status"] = trouble

    async def _take_down(self) -> None:
        """Clients before servers: first who answers people, last broker and object store."""
        ends = [process for name, process in self.processes.items() if name not in ("nats", "s3")]
        await asyncio.gather(*(process.stop() for process in ends))
        await asyncio.gather(*(self.processes[name].stop() for name in ("nats", "s3") if name in self.processes))
        self.layout.status.unlink(missing_ok=True)


def _remembered(layout: Layout) -> dict[str, dict[str, Any]]:
    """Processes that a supervisor which did not end cleanly left behind."""
    try:
        document = json.loads(layout.status.read_text())
    except (OSError, ValueError):
        return {}
    return {
        record["name"]: record for record in document["processes"] if record["name"] != "supervisor" and record["pid"]
    }


def _running(record: dict[str, Any]) -> psutil.Process | None:
    """The process of a record, if it is still that one and alive."""
    try:
        process = psutil.Process(record["pid"])
        same = record["create_time"] is not None and abs(process.create_time() - record["create_time"]) < 0.1
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def end_processes(records: list[dict[str, Any]]) -> int:
    """End processes of another supervisor, servers last, and wait until they are gone; how many there were."""
    ended = 0
    for servers in (False, True):
        alive = [found for each in records if (each["name"] in ("nats", "s3")) is servers and (found := _running(each))]
        family = list(alive)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                family += process.children(recursive=True)
                process.terminate()
        _, deaf = psutil.wait_procs(family, timeout=END_SECONDS)
        for process in deaf:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(deaf, timeout=END_SECONDS)
        ended += len(alive)
    return ended


def living_supervisor(layout: Layout) -> int | None:
    """Process id of the supervisor that holds the lock; None when nobody does, whatever id a dead one left in it."""
    try:
        with layout.lock.open("r+") as lock:
            return None if _taken(lock) else int(lock.read())
    except (OSError, ValueError):
        return None


def _taken(lock: IO[str]) -> bool:
    """Try to take the lock; it is held until the file is closed."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def end_leftovers(layout: Layout) -> int:
    """End what a killed supervisor left running; returns how many processes there were."""
    ended = end_processes(list(_remembered(layout).values()))
    layout.status.unlink(missing_ok=True)
    return ended


async def serve(supervisor: Supervisor, claims: dict[str, tuple[int, str]]) -> None:
    """Run a locked supervisor until SIGINT, SIGTERM or the end of its terminal."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, supervisor.stopping.set)
    try:
        await supervisor.run(claims)
    except PawlError as error:
        write_atomically(supervisor.layout.root / "failure.txt", f"{error}\n")
        raise
