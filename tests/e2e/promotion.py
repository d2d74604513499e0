"""A whole turn under traffic in a running stack, with a process killed on the way."""

import asyncio
import itertools
import random
from dataclasses import dataclass
from pathlib import Path

from triage import history
from triage.tickets import tickets
from triage.traffic import Tally, Traffic

from libs.contracts.errors import Transient
from libs.contracts.stubs.pawl.registry.v1 import registry_pb2
from pawl.client import Connection, Pawl
from tests.e2e.stack import RunningStack, lax_task, until

TASK = "triage-loop"
SEED = 7
_BEFORE_USERS = ("", "curating", "training", "loading", "evaluating")
VICTIMS = ("nats", "s3", "registry", "ingestion", "curation", "trainer", "evaluator", "gateway", "engine-")


@dataclass(frozen=True, slots=True)
class Promotion:
    """What came of it."""

    killed: str
    turn: registry_pb2.Turn
    version: registry_pb2.Version
    tally: Tally


async def promote(stack: RunningStack, directory: Path) -> Promotion:
    """Import generated history, kill a process while the first version is trained, and wait for the turn's end."""
    victim = random.Random(SEED).choice(VICTIMS)
    stack.pawl("apply", str(lax_task(directory, **{"task:": f"task: {TASK}"})))
    rows = directory / "history.jsonl"
    history.main(["--seed", "7", "--out", str(rows), "--truth", str(rows.with_suffix(".truth"))])
    numbers = itertools.count()
    connection = Connection.find(stack.home)
    with stack.client() as pawl:
        async with Traffic(connection, TASK, lambda _: next(tickets(SEED + next(numbers), 1)), seed=SEED) as traffic:
            traffic.rate = 1.0
            await asyncio.to_thread(stack.pawl, "import", str(rows), "--task", TASK)
            await asyncio.to_thread(until, lambda: _state(pawl) == "training", 120, "training")
            await asyncio.to_thread(stack.kill, victim)
            await asyncio.to_thread(until, lambda: _state(pawl) not in _BEFORE_USERS, 360, f"live without {victim}")
            traffic.rate = 4.0
            await asyncio.to_thread(until, lambda: _closed(pawl), 180, "over")
            traffic.rate = 0.0
            await traffic.settle()
        return Promotion(victim, pawl.turns(TASK)[0], pawl.versions(TASK)[-1], traffic.tally)


def _turn(pawl: Pawl) -> registry_pb2.Turn | None:
    try:
        return next(iter(pawl.turns(TASK)), None)
    except Transient:  # the registry may be the one that was killed
        return None


def _state(pawl: Pawl) -> str:
    turn = _turn(pawl)
    return turn.state if turn else ""


def _closed(pawl: Pawl) -> bool:
    turn = _turn(pawl)
    return bool(turn and turn.closed_at.seconds)
