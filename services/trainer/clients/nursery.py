"""Training processes: one kept warm, each serving one job, none outliving the service."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from libs.contracts.errors import FailedPrecondition, Unavailable
from libs.runtime.children import Child, spawn_child
from libs.telemetry import get_logger
from services.trainer.domain.protocol import Export, Failed, Job, Said, Stop, Survey, Sweep, Warm, Word, said

log = get_logger(__name__)

_MODULE = "services.trainer.compute"
_LOG_BYTES = 4 * 1024 * 1024
_CGROUP_EVENTS = Path("/sys/fs/cgroup/memory.events")


class Trainee:
    """One training process."""

    def __init__(self, child: Child, log_file: Path, log_start: int, kills: int) -> None:
        self._child = child
        self._log_file = log_file
        self._log_start = log_start
        self._kills = kills

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._child.returncode is None

    async def give(self, job: Job | Survey | Export | Sweep) -> None:
        """Hand over the work. Raises Unavailable when the process is gone."""
        await self._tell(job)

    async def ask_to_stop(self) -> None:
        """Ask for a checkpoint and an end; a process that is gone already does not mind."""
        try:
            await self._tell(Stop())
        except Unavailable:
            return

    async def words(self) -> AsyncIterator[Said]:
        """What it says, until it is gone."""
        async for message in self._child.messages():
            word = said.validate_python(message)
            if isinstance(word, Warm):
                log.info("training process warm", child=self.pid, seconds=word.seconds)
            else:
                yield word

    async def end(self) -> int:
        """Kill it if it runs, and everything it started; returns the exit status."""
        self._child.kill()
        status = await self._child.wait()
        self._child.close()
        return status

    async def exit_status(self) -> int:
        """Status of a process that said its last word (negative: the signal)."""
        return await self._child.wait()

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed something of this container for memory since the process was started."""
        return _memory_kills() > self._kills

    def last_words(self) -> str:
        """Last line of its log, if it wrote any."""
        try:
            with self._log_file.open("rb") as file:
                file.seek(self._log_start)
                lines = file.read()[-4000:].decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1].strip()[:300] if lines else ""

    async def _tell(self, word: Word) -> None:
        await self._child.send(word.model_dump(mode="json"))


class Nursery:
    """Gives out training processes.

    Importing torch and transformers takes several seconds of a core; with `standby` one process that has done so waits
    for the next job. It is replaced when no job runs, so that its import takes no core from training.
    """

    def __init__(self, directory: Path, *, standby: bool) -> None:
        self._directory = directory
        self._standby = standby
        self._waiting: Trainee | None = None
        self._given: list[Trainee] = []
        self._closed = False

    @property
    def training(self) -> bool:
        """Whether a process given out for a job still runs."""
        self._given = [trainee for trainee in self._given if trainee.alive]
        return bool(self._given)

    async def prepare(self) -> None:
        """Have a process warm up, if one is wanted and none does."""
        if not self._standby or self._closed or (self._waiting is not None and self._waiting.alive):
            return
        self._waiting = await self._spawn()

    async def take(self, wanted: tuple[str, ...] = (), processes: int = 1) -> Trainee:  # noqa: ARG002 - as launched
        """A process for one job: the waiting one if it lives, or one of its own with the optional packages `wanted`.

        The first of several; it starts the others.
        """
        taken = await (self._spawn(wanted) if wanted else self._ready())
        self._given.append(taken)
        return taken

    async def ask(self, work: Survey | Export, wanted: tuple[str, ...] = ()) -> Said:
        """Have a process do a short piece of work, the waiting one if it lives; returns its last word.

        `wanted` names optional packages that it needs. Raises FailedPrecondition with the reason it gave, or
        Unavailable when it died.
        """
        trainee = await (self._spawn(wanted) if wanted else self._ready())
        try:
            await trainee.give(work)
            async for word in trainee.words():
                if isinstance(word, Failed):
                    raise FailedPrecondition(word.message, reason=word.reason)
                return word
            raise Unavailable(f"the process that was asked is gone: {trainee.last_words()}", reason="CHILD_GONE")
        finally:
            await trainee.end()
            await self.prepare()

    async def close(self) -> None:
        """End the waiting process."""
        self._closed = True
        if self._waiting is not None:
            await self._waiting.end()
            self._waiting = None

    async def _ready(self) -> Trainee:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            if waiting.alive:
                return waiting
            await waiting.end()
        return await self._spawn()

    async def _spawn(self, wanted: tuple[str, ...] = ()) -> Trainee:
        log_file = self._directory / "training.log"
        start = await asyncio.to_thread(_rotate, log_file)
        with log_file.open("ab") as output:
            child = await spawn_child([sys.executable, "-m", _MODULE, *wanted], stdout=output, stderr=output)
        return Trainee(child, log_file, start, _memory_kills())


def _rotate(log_file: Path) -> int:
    log_file.parent.mkdir(parents=True, exist_ok=True)
    if log_file.exists() and log_file.stat().st_size > _LOG_BYTES:
        log_file.replace(log_file.with_suffix(".log.1"))
    return log_file.stat().st_size if log_file.exists() else 0


def _memory_kills() -> int:
    try:
        lines = _CGROUP_EVENTS.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
