"""A harmless and a harmful version under live traffic, in a whole local stack: `python -m bench canary`.

Both are trained, evaluated and rolled out by the registry as any other. Users are the example's, each a new one. They
correct wrong answers and praise right ones, as in the demo; besides, one in ten blames the answer whatever it says, and
of a harmful version nine in ten do. The first version is harmless, the second harmful from the moment users meet it:
nothing of it can be seen in evaluation or shadow, where its answers are as good as those before.
"""

import asyncio
import itertools
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples" / "support-triage"))

from triage import history  # noqa: E402 - an example is not installed
from triage.tickets import Ticket, tickets  # noqa: E402
from triage.traffic import CORRECTED, PRAISE, Answer, Traffic  # noqa: E402

from libs.contracts.errors import Transient  # noqa: E402
from libs.contracts.stubs.pawl.registry.v1 import registry_pb2  # noqa: E402
from pawl.client import Connection, Pawl  # noqa: E402
from tests.e2e.stack import RunningStack, discard, small_task, until  # noqa: E402

TASK = "canary"
RESULTS = ROOT / "bench" / "results" / "canary.md"
USUAL, HARMFUL = 0.1, 0.9
RATE = 8.0
TASK_LINES = {
    "task:": f"task: {TASK}",
    # The example's own training: a model that is mostly wrong leaves nothing for a harmful one to spoil.
    "  epochs:": "  epochs: 3",
    "  checkpoint_steps:": "  checkpoint_steps: 30",
    "    - {name: not-worse-than-stable": "    - {name: any, kind: non_inferiority, against: stable, margin: 0.5}",
    "  shadow:": "  shadow: {rate: 1.0, min_pairs: 30, margin: 0.2, alpha: 0.05}",
    "  canary:": "  canary: {steps: [10, 25, 50, 100], min_windows: 8, window_seconds: 3, harm_ratio: 1, alpha: 0.01}",
    "  corrections:": "  corrections: 1000000",
}
PATIENCE = 1200.0


class Users(Traffic):
    """Users who say what is right where they say it at all, and blame a harmful version for what it does to them."""

    harmful: str = ""

    def watch(self) -> None:
        """Begin to count the users of each version anew."""
        self.met: Counter[str] = Counter()
        self.last: dict[str, float] = {}

    async def _user(self, ticket: Ticket, user: str) -> None:
        rng = random.Random(user)
        try:
            answer = await self.ask(ticket, user)
        finally:
            self._workers.release()
        if answer is None:
            return
        self.met[answer.version] += 1
        self.last[answer.version] = time.monotonic()
        if rng.random() < (HARMFUL if answer.version == self.harmful else USUAL):
            await self._rate(answer, 0)
        elif not answer.right and rng.random() < CORRECTED:
            await self.correct(answer, source=self._source)
        elif answer.right and rng.random() < PRAISE:
            await self._rate(answer, 1)

    async def _rate(self, answer: Answer, rating: int) -> None:
        said = {"source": self._source, "kind": "rating", "rating": rating, "user": answer.user}
        await self.publish({**said, "id": f"p-{answer.request_id}", "request_id": answer.request_id})


def turn_of(pawl: Pawl, number: int) -> registry_pb2.Turn | None:
    """A turn by its place; nothing while the registry is away."""
    try:
        turns = pawl.turns(TASK)
    except Transient:
        return None
    return turns[number] if len(turns) > number else None


async def rolled(pawl: Pawl, users: Users, number: int) -> list[str]:
    """Wait for a turn's end; a row of markdown of what became of it."""
    users.watch()
    began = time.monotonic()
    turn = None
    while turn is None or not turn.closed_at.seconds:
        await asyncio.sleep(0.3)
        users.check()
        turn = await asyncio.to_thread(turn_of, pawl, number)
        if time.monotonic() - began > PATIENCE:
            raise RuntimeError(f"turn {number} is not over: {turn}")
    closed = time.monotonic()
    live = [step for step in turn.steps if step.state in ("canary", "promoted", "rolled_back")]
    first = live[0].at.ToDatetime() if live else None
    seconds = (turn.closed_at.ToDatetime() - first).total_seconds() if first else 0.0
    steps = " -> ".join(f"{step.state}: {step.reason}".replace("|", "/")[:90] for step in live)
    version = f"{TASK}@{turn.version}"
    while users.last.get(version, 0.0) > time.monotonic() - 3.0 and turn.state == "rolled_back":
        await asyncio.sleep(0.5)
        if time.monotonic() - closed > 60:
            break
    late = max(0.0, users.last.get(version, 0.0) - closed)
    asked = sum(users.met.values())
    return [version, turn.state, f"{seconds:.0f}", f"{users.met[version]} of {asked}", f"{late:.1f}", steps]


async def main() -> int:
    """Run both; status 1 unless the one is promoted and the other rolled back."""
    home = Path(tempfile.mkdtemp()) / ".pawl"
    stack = RunningStack(home)
    numbers = itertools.count()
    try:
        await asyncio.to_thread(stack.pawl, "up", "--detach")
        task = small_task(home / "task", **TASK_LINES)
        await asyncio.to_thread(stack.pawl, "apply", str(task))
        rows = home / "task" / "history.jsonl"
        history.main(["--seed", "7", "--out", str(rows), "--truth", str(rows.with_suffix(".truth"))])
        await asyncio.to_thread(stack.wait_healthy)
        with stack.client() as pawl:
            users = Users(Connection.find(home), TASK, lambda _: next(tickets(next(numbers), 1)), seed=1)
            users.watch()
            async with users:
                users.rate = RATE
                await asyncio.to_thread(stack.pawl, "import", str(rows), "--task", TASK)
                await asyncio.to_thread(until, lambda: turn_of(pawl, 0), 120, "a turn")
                harmless = await rolled(pawl, users, 0)
                print(harmless, flush=True)
                users.harmful = f"{TASK}@2"
                pawl.start_turn(TASK, by="bench")
                harmful = await rolled(pawl, users, 1)
                print(harmful, flush=True)
                users.rate = 0.0
                await users.settle()
                failed = users.tally.failed
    finally:
        discard(home)
    told = (
        f"`python -m bench canary`: {RATE:g} users a second, each a new one; {USUAL:.0%} of answers are blamed, of "
        f"the harmful version {HARMFUL:.0%}; wrong answers are corrected. Steps 10, 25, 50, 100 %; alpha 0.01, harm "
        "ratio 1.\n"
    )
    lines = [
        "# A harmless and a harmful canary under live traffic\n",
        told,
        "| version | end | s in canary | users it answered | s it went on answering after its end | steps |",
        "|-|-|-|-|-|-|",
        *(f"| {' | '.join(row)} |" for row in (harmless, harmful)),
        f"\nRequests that failed: {failed}.",
    ]
    RESULTS.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return int((harmless[1], harmful[1]) != ("promoted", "rolled_back"))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
