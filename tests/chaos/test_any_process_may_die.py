"""Every process, killed in every state of a turn: the turn ends right, no answer is lost, nothing is left behind."""

import asyncio
import itertools
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from triage import history
from triage.tickets import tickets
from triage.traffic import Traffic

from libs.contracts.errors import Transient
from libs.contracts.stubs.pawl.registry.v1 import registry_pb2
from pawl.client import Connection, Pawl
from tests.e2e.stack import RunningStack, discard, lax_task, until

TASK = "support-triage"
PROCESSES = ("nats", "s3", "registry", "ingestion", "curation", "trainer", "evaluator", "gateway", "console", "engine-")
STATES = ("curating", "training", "evaluating", "shadow", "canary")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    home: Path = tmp_path_factory.mktemp("chaos") / ".pawl"
    running = RunningStack(home)
    try:
        running.pawl("up", "--detach")
        # what counts here is that a turn ends, whatever 24 steps have taught
        running.pawl("apply", str(lax_task(home / "task", **{"  on_import:": "  on_import: false"})))
        rows = home / "task" / "history.jsonl"
        history.main(["--seed", "7", "--out", str(rows), "--truth", str(rows.with_suffix(".truth"))])
        until(
            lambda: any(each["name"].startswith("engine-") for each in running.status()["processes"]), 60, "an engine"
        )
        running.wait_healthy()
        running.pawl("import", str(rows), "--task", TASK)
        yield running
    finally:
        discard(home)


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("victim", PROCESSES)
async def test_a_turn_ends_and_no_answer_fails_though_a_process_is_killed(
    stack: RunningStack, victim: str, state: str
) -> None:
    numbers = itertools.count()
    with stack.client() as pawl:
        await asyncio.to_thread(until, lambda: all(closed(turn) for turn in turns(pawl)), 300, "idle")
        before = len(turns(pawl))
        seed = zlib.crc32(f"{victim} {state}".encode())
        connection = Connection.find(stack.home)
        async with Traffic(connection, TASK, lambda _: next(tickets(seed + next(numbers), 1)), seed=seed) as traffic:
            traffic.rate = 8.0
            pawl.start_turn(TASK, by="chaos")
            await asyncio.to_thread(until, lambda: state in states(pawl, before), 240, state)
            await asyncio.to_thread(stack.kill, victim)
            await asyncio.to_thread(
                until, lambda: len(turns(pawl)) > before and closed(turns(pawl)[before]), 300, f"over without {victim}"
            )
            traffic.rate = 0.0
            await traffic.settle()
            assert traffic.tally.failed == 0, traffic.tally.errors
        assert turns(pawl)[before].state == "promoted", turns(pawl)[before].reason
    await asyncio.to_thread(stack.wait_healthy)
    assert stack.orphans() == []


def turns(pawl: Pawl) -> list[registry_pb2.Turn]:
    """The turns so far; none while the registry is the one that was killed."""
    try:
        return pawl.turns(TASK)
    except Transient:
        return []


def states(pawl: Pawl, number: int) -> set[str]:
    """The states a turn has entered."""
    return {step.state for turn in turns(pawl)[number : number + 1] for step in turn.steps}


def closed(turn: registry_pb2.Turn) -> bool:
    return bool(turn.closed_at.seconds)
