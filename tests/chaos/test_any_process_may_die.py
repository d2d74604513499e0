"""Every process, killed in every state of a turn: the turn ends right, no answer is lost, nothing is left behind."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from triage import history
from triage.tickets import tickets
from triage.traffic import Traffic

from pawl.client import Connection
from tests.e2e.stack import RunningStack, discard, small_task, until

TASK = "support-triage"
PROCESSES = ("nats", "s3", "registry", "ingestion", "curation", "trainer", "evaluator", "gateway", "console", "engine-")
STATES = ("curating", "training", "evaluating", "shadow", "canary")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    home: Path = tmp_path_factory.mktemp("chaos") / ".pawl"
    running = RunningStack(home)
    try:
        running.pawl("up", "--detach")
        relaxed = {
            "    - {name: good-enough": "    - {name: good-enough, kind: floor, metric: exact_match, at_least: 0.01}"
        }
        no_json = {
            "    - {name: valid-json": "    - {name: valid-json, kind: floor, metric: json_valid, at_least: 0.01}"
        }
        # every turn is judged against the bare base: what counts here is that it ends
        not_worse = {
            "    - {name: not-worse-than-stable": (
                "    - {name: not-worse-than-stable, kind: non_inferiority, metric: exact_match, against: stable, margin: 0.9}"
            )
        }
        running.pawl("apply", str(small_task(home / "task", **relaxed, **no_json, **not_worse)))
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
        await asyncio.to_thread(until, lambda: all(turn.closed_at.seconds for turn in pawl.turns(TASK)), 300, "idle")
        before = len(pawl.turns(TASK))
        connection = Connection.find(stack.home)
        async with Traffic(
            connection, TASK, lambda _: next(tickets(next(numbers), 1)), seed=hash((victim, state))
        ) as traffic:
            traffic.rate = 8.0
            if not before or pawl.turns(TASK)[-1].closed_at.seconds:
                pawl.start_turn(TASK, by="chaos")

            def reached() -> bool:
                turn = pawl.turns(TASK)[before]
                return turn.state == state or bool(turn.closed_at.seconds)

            await asyncio.to_thread(until, reached, 240, state)
            await asyncio.to_thread(stack.kill, victim)
            await asyncio.sleep(1.0)

            def ended() -> bool:
                return stack_answers(pawl, before)

            await asyncio.to_thread(until, ended, 300, f"ended after {victim} was killed while {state}")
            traffic.rate = 0.0
            await traffic.settle()
            assert traffic.tally.failed == 0, traffic.tally.errors
        assert pawl.turns(TASK)[before].state in ("promoted", "refused")
    await asyncio.to_thread(stack.wait_healthy)
    names = [each["name"] for each in stack.status()["processes"]]
    assert len(names) == len(set(names))


def stack_answers(pawl: object, number: int) -> bool:
    """Whether the turn is closed; a registry that is away counts as not yet."""
    from libs.contracts.errors import Transient

    try:
        return bool(pawl.turns(TASK)[number].closed_at.seconds)  # type: ignore[attr-defined]
    except Transient:
        return False
