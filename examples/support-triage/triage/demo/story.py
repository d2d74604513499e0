"""The story of the demo, stage by stage; each ends with what must have happened, or Unkept."""

import asyncio
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from libs.contracts.stubs.pawl.registry.v1 import registry_pb2
from libs.telemetry import new_traceparent, trace_id
from pawl.client import Pawl
from triage import history
from triage.demo.ledger import Ledger
from triage.demo.looking import paired, retried, trace_behind
from triage.demo.stack import Stack
from triage.language import KNOWN
from triage.tickets import Ticket, poisoned, tickets
from triage.traffic import Traffic

TASK = "support-triage"
NEW = "shipping"
ENDS = ("promoted", "refused", "rolled_back", "failed", "cancelled")
DESK_CORRECTIONS = 260
POISON = 560
_STEPS_BEHIND = 60
TARGETS = ("billing", "data", "feature", "howto")
USERS = 2000
QUIET, BUSY = 0.5, 40.0
RATES = {"shadow": 20.0, "canary": BUSY}
"""Requests per second: few while the machine trains; fewer in shadow than in canary, for each is answered twice."""


class Unkept(Exception):
    """Something that the demo promises did not happen."""


class Story:
    """Tells the story on a stack; what happened stands in `ledger`."""

    def __init__(self, stack: Stack, console: Console, *, seed: int) -> None:
        self.stack = stack
        self.console = console
        self.seed = seed
        self.ledger = Ledger()
        self.mix: list[str] = list(KNOWN)
        self.trace = new_traceparent()
        """Of the desk's corrections: it must lead to the answers of the version that they made."""
        self._shown = ""
        self.example = Path(__file__).resolve().parents[2]

    async def tell(self) -> None:
        """All stages in order."""
        self._title("bring up nats-server, S3 and every process")
        with self.ledger.stage("start"):
            await asyncio.to_thread(self.stack.up)
        with self.stack.client() as pawl:
            with self.ledger.stage("apply and import"):
                await self._import(pawl)
            draws = self._draws()
            async with Traffic(self.stack.connection(), TASK, lambda _: next(draws), seed=self.seed) as traffic:
                await self._first_turn(pawl, traffic)
                await self._new_category(pawl, traffic)
                await self._poison(pawl, traffic)
                await self._forced(pawl, traffic)
                traffic.rate = 0.0
                await traffic.settle()
                self._count(traffic)
            await self._versions(pawl)
        self._summary()

    # --- stages ------------------------------------------------------------------------------------

    async def _import(self, pawl: Pawl) -> None:
        self._title("1. import dirty history")
        rows = self.stack.directory / "demo" / "history.jsonl"
        history.main(["--seed", str(self.seed), "--out", str(rows), "--truth", str(rows.with_name("truth.json"))])
        await asyncio.to_thread(pawl.apply, self.example / "task.yaml", by="demo")
        done = await asyncio.to_thread(pawl.import_file, TASK, rows, source="history")
        self.say(f"{done.rows} rows: {done.accepted} accepted, {done.quarantined} malformed and set aside, for example")
        for row in done.quarantine[:3]:
            self.say(f"    row {row.row}: {row.field} {row.reason}".replace(":  ", ": "))
        self.ledger.dataset["import"] = {"rows": done.rows, "accepted": done.accepted, "quarantined": done.quarantined}
        self.ledger.note("imported", rows=done.rows)

    async def _first_turn(self, pawl: Pawl, traffic: Traffic) -> None:
        self._title("2. curate, train, prove, roll out")
        with self.ledger.stage("turn 1: dataset"):
            turn = await self._state(pawl, traffic, 1, "training")
        await self._dataset(pawl)
        with self.ledger.stage("turn 1: train"):
            await self._state(pawl, traffic, 1, "loading", "evaluating")
        with self.ledger.stage("turn 1: evaluate"):
            await self._state(pawl, traffic, 1, "shadow")
        report = await self._report(pawl)
        self.ledger.arms = {name: report["arms"][name] for name in ("base", "fine_tuned")}
        base, tuned = (self.ledger.arms[name]["exact_match"] for name in ("base", "fine_tuned"))
        if not (tuned["value"] >= 0.5 and tuned["low"] > base["high"] and tuned["n"] >= 300):
            raise Unkept(f"fine-tuned {tuned} does not clearly beat base {base} on at least 300 items")
        with self.ledger.stage("turn 1: rollout"):
            turn = await self._end(pawl, traffic, 1)
        self._expect(turn, "promoted")
        await self._close(pawl, turn)

    async def _new_category(self, pawl: Pawl, traffic: Traffic) -> None:
        self._title(f"3. corrections of a category the model never saw ({NEW}) arrive over NATS")
        self.mix.append(NEW)
        with self.ledger.stage("turn 2: corrections"):
            await self._desk(traffic)
            turn = await self._state(pawl, traffic, 2, "training")
        self.say(f"the trigger fired by itself: {turn.trigger}")
        self._title("4. kill -9 of the trainer in the middle of its run")
        with self.ledger.stage("turn 2: train, killed and resumed"):
            await self._kill_trainer(pawl, traffic, turn.run_id)
            await self._state(pawl, traffic, 2, "loading", "evaluating")
        run = await asyncio.to_thread(pawl.run, turn.run_id)
        # The step is the last one told, and the trainer goes on until the signal reaches it.
        if not 0 < run.resumed_at_step <= self.ledger.resume["killed_at_step"] + _STEPS_BEHIND:
            raise Unkept(f"killed at step {self.ledger.resume['killed_at_step']}, resumed at {run.resumed_at_step}")
        self.ledger.resume["resumed_at_step"] = run.resumed_at_step
        self.say(f"killed at step {self.ledger.resume['killed_at_step']}, resumed at {run.resumed_at_step}")
        with self.ledger.stage("turn 2: evaluate"):
            await self._state(pawl, traffic, 2, "shadow")
        report = await self._report(pawl)
        new, old = report["slices"][NEW]["fine_tuned"]["exact_match"], report["slices"][NEW]["stable"]["exact_match"]
        self.ledger.new_category = {"category": NEW, "version_2": new, "version_1": old}
        elsewhere = paired(report, "fine_tuned", "stable", NEW)
        self.ledger.new_category["elsewhere"] = elsewhere
        told = "{value:+.3f}  [{low:+.3f}, {high:+.3f}]  n={n}".format(**elsewhere)
        self.say(f"version 2 against version 1 elsewhere: {told}")
        if elsewhere["low"] < -0.05:
            raise Unkept(f"version 2 is not shown to be as good elsewhere: {elsewhere}")
        if new["value"] - old["value"] < 0.2:
            raise Unkept(f"version 2 is not 20 points up on {NEW}: {old} to {new}")
        with self.ledger.stage("turn 2: rollout"):
            turn = await self._end(pawl, traffic, 2)
        self._expect(turn, "promoted")
        await self._close(pawl, turn)
        served = await trace_behind(self.stack.connection(), TASK, "Where is my parcel?")
        traced = {"feedback": trace_id(self.trace), "turn": trace_id(turn.traceparent), "answer": served}
        self.ledger.trace = traced
        if len(set(traced.values())) > 1:
            raise Unkept(f"the trace of the corrections is not that of the answers they led to: {traced}")
        self.say(f"one trace from the corrections to the answers of version 2: {served}")

    async def _poison(self, pawl: Pawl, traffic: Traffic) -> None:
        self._title("5. poisoned feedback")
        with self.ledger.stage("turn 3: poison, train, refuse"):
            # all at once, as such a campaign comes
            await asyncio.gather(*(traffic.publish(event) for event in campaign(self.seed + 500)))
            turn = await self._end(pawl, traffic, 3)
        self._expect(turn, "refused")
        report = await self._report(pawl)
        gate = next(each for each in report["gates"] if each["verdict"] != "pass")
        self.ledger.refused = {
            "version": f"{TASK}@{turn.version}",
            "gate": gate["gate"],
            "verdict": gate["verdict"],
            "reason": gate["reason"],
        }
        self.ledger.refused["gates"] = report["gates"]
        self.say(f"refused by {gate['gate']}: {gate['reason']}")
        await self._close(pawl, turn)

    async def _forced(self, pawl: Pawl, traffic: Traffic) -> None:
        self._title("6. somebody forces the refused version through")
        failing = [gate["gate"] for gate in self.ledger.refused["gates"] if gate["verdict"] != "pass"]
        version = int(self.ledger.refused["version"].split("@")[1])
        before, users, begun = traffic.tally.failed + traffic.tally.retried, len(traffic.tally.users), time.monotonic()
        traffic.rate = RATES["canary"]
        with self.ledger.stage("turn 4: forced, caught, rolled back"):
            await asyncio.to_thread(pawl.override, TASK, version, failing, by="demo", reason="the demo insists")
            await self._state(pawl, traffic, 4, "canary")
            live = time.monotonic()
            turn = await self._end(pawl, traffic, 4)
            rolled_back = time.monotonic()
        self._expect(turn, "rolled_back")
        with self.ledger.stage("traffic goes on"):
            traffic.rate = BUSY
            while len(traffic.tally.users) - users < USERS:
                traffic.check()
                await asyncio.sleep(0.2)
        last = (await asyncio.to_thread(pawl.assessments, TASK, version))[-1]
        self.ledger.rollback = {
            "version": f"{TASK}@{version}",
            "seconds": round(rolled_back - live, 1),
            "seconds_from_override": round(rolled_back - begun, 1),
            "canary_requests": traffic.tally.asked[f"{TASK}@{version}"],
            "failed_requests": traffic.tally.failed + traffic.tally.retried - before,
            "users": len(traffic.tally.users) - users,
            "reason": turn.reason,
            "assessment": last,
        }
        self.say(f"rolled back after {self.ledger.rollback['canary_requests']} canary requests: {turn.reason}")
        if self.ledger.rollback["failed_requests"]:
            raise Unkept(f"{self.ledger.rollback['failed_requests']} requests failed: {traffic.tally.errors[-1:]}")
        if not self.ledger.rollback["canary_requests"]:
            raise Unkept("the canary was rolled back before anybody asked it")
        await self._close(pawl, turn)

    # --- waiting and looking -----------------------------------------------------------------------

    async def _state(self, pawl: Pawl, traffic: Traffic, number: int, *states: str) -> registry_pb2.Turn:
        """Wait until turn `number` (1-based) has entered one of the states; Unkept if it ended before."""

        def entered(turn: registry_pb2.Turn) -> bool:
            return any(step.state in states for step in turn.steps)

        turn = await self._follow(pawl, traffic, number, lambda turn: entered(turn) or turn.state in ENDS)
        if not entered(turn):
            raise Unkept(f"turn {number} ended as {turn.state} before it came to {' or '.join(states)}: {turn.reason}")
        return turn

    async def _end(self, pawl: Pawl, traffic: Traffic, number: int) -> registry_pb2.Turn:
        """Wait for the end of turn `number`."""
        return await self._follow(pawl, traffic, number, lambda turn: turn.state in ENDS)

    async def _follow(
        self, pawl: Pawl, traffic: Traffic, number: int, done: Callable[[registry_pb2.Turn], bool], limit: float = 600.0
    ) -> registry_pb2.Turn:
        deadline, progress = time.monotonic() + limit, ""
        with self.console.status("") as line:
            while True:
                traffic.check()
                turns = await retried(lambda: pawl.turns(TASK))
                if len(turns) >= number:
                    turn = turns[number - 1]
                    traffic.rate = RATES.get(turn.state, QUIET)
                    progress = turn.progress_json if turn.state == "training" else ""
                    last = f"turn {number}: {turn.steps[-1].state}  {turn.steps[-1].reason}" if turn.steps else ""
                    if self._shown != last:
                        self._shown = last
                        self.say(last)
                        self.ledger.note(f"turn {number}: {turn.steps[-1].state}", reason=turn.steps[-1].reason)
                    if done(turn):
                        return turn
                tally = traffic.tally
                line.update(f"{tally.requests} requests, {tally.failed} failed   {progress[:120]}")
                if time.monotonic() > deadline:
                    raise Unkept(f"turn {number} did not get on within {limit:.0f} s (last: {self._shown})")
                await asyncio.sleep(0.5)

    async def _kill_trainer(self, pawl: Pawl, traffic: Traffic, run_id: str) -> None:
        deadline = time.monotonic() + 300.0
        while True:
            traffic.check()
            run = await retried(lambda: pawl.run(run_id))
            if run.status not in ("queued", "running") or time.monotonic() > deadline:
                raise Unkept(f"the run could not be killed in its middle: {run.status} at step {run.step}")
            if run.total_steps and run.step >= 0.45 * run.total_steps:
                break
            await asyncio.sleep(0.1)
        pid = await asyncio.to_thread(self.stack.kill, "trainer")
        killed = time.monotonic()
        self.ledger.resume = {"killed_at_step": run.step, "pid": pid}
        self.ledger.note("kill -9 of the trainer", step=run.step, pid=pid)
        self.say(f"kill -9 {pid} at step {run.step} of {run.total_steps}")
        while (again := await retried(lambda: pawl.run(run_id))).epoch <= run.epoch:
            if time.monotonic() > killed + 60.0:
                raise Unkept("nobody took the run over within 60 s")
            await asyncio.sleep(0.1)
        self.ledger.resume["taken_over_after_seconds"] = round(time.monotonic() - killed, 1)
        self.say(f"taken over after {self.ledger.resume['taken_over_after_seconds']} s by attempt {again.epoch}")

    async def _desk(self, traffic: Traffic) -> None:
        """The desk asks about tickets of the new category, finds the answers wrong and corrects them."""

        async def one(number: int, ticket: Ticket) -> None:
            answer = await traffic.ask(ticket, f"desk-{number}")
            if answer is not None:
                await traffic.correct(answer, source="triage-desk", trace=self.trace)

        batch = list(tickets(self.seed + 300, DESK_CORRECTIONS, categories=[NEW]))
        for start in range(0, len(batch), 16):
            await asyncio.gather(
                *(one(start + offset, ticket) for offset, ticket in enumerate(batch[start : start + 16]))
            )
        self.say(f"{len(batch)} corrections published to feedback.default.{TASK}")

    async def _dataset(self, pawl: Pawl) -> None:
        found, whole = await asyncio.to_thread(pawl.dataset, TASK, 0)
        self.ledger.dataset |= {"digest": found.digest, "splits": dict(found.splits), "removed": dict(found.removed)}
        self.ledger.dataset["report"] = whole
        self.say(
            f"dataset {found.number}: " + ", ".join(f"{rows} {split}" for split, rows in sorted(found.splits.items()))
        )
        for reason, rows in sorted(found.removed.items(), key=lambda pair: -pair[1]):
            self.say(f"    {rows:5d} removed: {reason}")

    async def _report(self, pawl: Pawl) -> dict[str, Any]:
        newest = next(each for each in await asyncio.to_thread(pawl.reports, TASK) if each.verdict)
        report = await asyncio.to_thread(pawl.report, newest.report_id)
        for arm, metrics in report["arms"].items():
            e = metrics["exact_match"]
            self.say(f"    {arm:<12} exact match {e['value']:.3f}  [{e['low']:.3f}, {e['high']:.3f}]  n={e['n']}")
        for gate in report["gates"]:
            self.say(f"    {gate['gate']:<22} {gate['verdict']:<12} {gate['reason']}")
        return report

    async def _close(self, pawl: Pawl, turn: registry_pb2.Turn) -> None:
        curve = json.loads(turn.progress_json or "{}").get("curve", [])
        if curve:
            self.ledger.loss[f"{TASK}@{turn.version}"] = [(step, loss) for step, loss in curve]
        seconds = turn.closed_at.ToDatetime().timestamp() - turn.opened_at.ToDatetime().timestamp()
        self.ledger.turns.append(
            {
                "turn_id": turn.turn_id,
                "trigger": turn.trigger,
                "version": f"{TASK}@{turn.version}",
                "verdict": turn.state,
                "seconds": round(seconds, 1),
                "trace_id": turn.traceparent.split("-")[1] if turn.traceparent else "",
                "steps": [
                    {"state": step.state, "reason": step.reason, "at": step.at.ToDatetime().isoformat()}
                    for step in turn.steps
                ],
                "assessments": await asyncio.to_thread(pawl.assessments, TASK, turn.version),
            }
        )

    async def _versions(self, pawl: Pawl) -> None:
        for version in await asyncio.to_thread(pawl.versions, TASK):
            self.ledger.versions.append(
                {
                    "version": f"{TASK}@{version.number}",
                    "status": version.status,
                    "digest": version.digest,
                    "run_id": version.run_id,
                }
            )

    def _count(self, traffic: Traffic) -> None:
        tally = traffic.tally
        self.ledger.traffic = {
            "requests": tally.requests,
            "failed": tally.failed,
            "retried": tally.retried,
            "by_http": tally.by_http,
            "users": len(tally.users),
            "right": {version: f"{tally.right[version]}/{asked}" for version, asked in sorted(tally.asked.items())},
            "errors": tally.errors,
        }
        if tally.failed:
            raise Unkept(f"{tally.failed} of {tally.requests} requests failed: {tally.errors[-1]}")

    def _draws(self) -> Iterator[Ticket]:
        """Tickets of the present mix, without end."""
        rng = random.Random(self.seed + 900)
        for number in itertools.count():
            category = rng.choice(self.mix)
            yield from tickets(self.seed * 1_000_003 + number, 1, categories=[category])

    def _expect(self, turn: registry_pb2.Turn, state: str) -> None:
        if turn.state != state:
            raise Unkept(f"turn {turn.turn_id} ended as {turn.state}, not {state}: {turn.reason}")

    def _title(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/]")
        self.ledger.note(text)

    def say(self, text: str) -> None:
        """One line of what happens."""
        self.console.print(f"  {text}", markup=False)

    def _summary(self) -> None:
        from triage.demo.report import table

        self.console.print()
        self.console.print(table(self.ledger))


def campaign(seed: int) -> list[dict[str, object]]:
    """Poisoned corrections: real tickets, right answers called wrong and systematically wrong ones called right.

    It aims at some categories, where it outweighs the honest rows: spread over all of them it would mostly be noise.
    """
    pairs = [(ticket, poisoned(ticket)) for ticket in tickets(seed, POISON, categories=TARGETS)]
    return [
        {
            "id": f"x-{number}",
            "source": "community",
            "kind": "correction",
            "input": ticket.text,
            "output": ticket.answer,
            "correction": wrong.answer,
            "category": wrong.category,
            "user": f"troll-{number % 40}",
        }
        for number, (ticket, wrong) in enumerate(pairs)
    ]
