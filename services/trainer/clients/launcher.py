"""The port behind which training processes are started: on this machine, or as a Kubernetes Job set."""

from collections.abc import AsyncIterator
from typing import Protocol

from services.trainer.domain.protocol import Export, Job, Said, Survey, Sweep


class Process(Protocol):
    """Whatever trains one run; several machines may be behind it."""

    @property
    def pid(self) -> int:
        """Its process id here; 0 where it runs elsewhere."""

    async def give(self, job: Job | Survey | Export | Sweep) -> None:
        """Hand over the work. Raises Unavailable when nobody is there to take it."""

    def words(self) -> AsyncIterator[Said]:
        """What it says, until it is gone."""

    async def ask_to_stop(self) -> None:
        """Ask for a checkpoint and an end."""

    async def end(self) -> int:
        """End it and all that belongs to it; returns the exit status."""

    async def exit_status(self) -> int:
        """Status of one that said its last word (negative: the signal)."""

    def ran_out_of_memory(self) -> bool:
        """Whether it was ended for its memory."""

    def last_words(self) -> str:
        """What it left to be read, if anything."""


class Launcher(Protocol):
    """Starts what trains a run."""

    async def take(self, wanted: tuple[str, ...] = (), processes: int = 1) -> Process:
        """Something that waits for one job of so many processes; `wanted` names optional packages."""
