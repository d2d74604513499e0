"""Every method from a task file through the command line: `python -m bench training_methods` trains, evaluates, serves.

A local stack, one suite, one task whose recipe changes from turn to turn. The teacher is a full fine-tune of the same
base that sees more rows for more steps than any student. LoRA and QLoRA train with three seeds; the distilled students
have a twin each that trains alike on the rows' own answers (LoRA of seed 0).
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.training.rows import BASE, RESULTS, quiet

TASK, TEACHER = "methods", "teacher"
METRICS = ("exact_match", "json_fields", "json_valid")
JUDGED = "json_fields"
MARGIN = 0.03
SECONDS = 1500.0


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of one: its run, its report, and an answer it gave as a user gets it."""

    name: str
    run: dict[str, Any]
    report: dict[str, Any]
    said: str
    digest: str

    def value(self, metric: str = JUDGED) -> float:
        """The fine-tuned arm's."""
        return float(self.report["arms"]["fine_tuned"][metric]["value"])

    def gain(self, metric: str) -> str:
        """Over the base, paired, with its interval."""
        found = self.report["differences"].get("base", {}).get(metric)
        if found is None:
            raise SystemExit(f"{self.name} is not compared with its base: {self.report['incomparable']}")
        return f"{found['value']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"


class Stack:
    """`pawl` on one directory."""

    def __init__(self, home: Path) -> None:
        from libs.testing.servers import free_port

        self.home = home
        self.port = free_port()

    @property
    def endpoint(self) -> str:
        """Where the gateway answers as OpenAI does."""
        return f"http://127.0.0.1:{self.port}/v1"

    def up(self) -> None:
        """Start it."""
        self.pawl("up", "--detach", "--http-port", str(self.port))

    def pawl(self, *arguments: str) -> str:
        """Run a command; its output. SystemExit when it fails."""
        command = [sys.executable, "-m", "pawl.cli", *arguments, "--dir", str(self.home)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"pawl {' '.join(arguments)}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
        return done.stdout

    def turn(self, task: str) -> Any:
        """The newest turn of a task, or None."""
        from pawl.client import Connection, Pawl

        with Pawl(Connection.find(self.home)) as pawl:
            return next(reversed(list(pawl.turns(task))), None)


@contextmanager
def stack(home: Path) -> Iterator[Stack]:
    """A stack whose trainer may ask the stack's own gateway, as a teacher."""
    running = Stack(home)
    try:
        running.up()
        key = json.loads(running.pawl("status", "--json"))["api_key"]
        running.pawl("down")
        os.environ["PAWL_TRAINER_TEACHER_KEYS"] = json.dumps({running.endpoint: key})
        running.up()
        yield running
    finally:
        subprocess.run([sys.executable, "-m", "pawl.cli", "down", "--dir", str(home)], check=False, capture_output=True)


def write_rows(file: Path, count: int, seed: int) -> Path:
    """Tickets with the right answer, and beside each a wrong one of the right form."""
    from triage.tickets import poisoned, tickets

    lines = [
        json.dumps({"id": each.id, "text": each.text, "answer": each.answer, "wrong": poisoned(each).answer,
                    "form": each.form})
        for each in tickets(seed, count)
    ]  # fmt: skip
    file.write_text("\n".join(lines) + "\n")
    return file


def write_task(directory: Path, task: str, recipe: dict[str, Any], items: int) -> Path:
    """A task file: the example's schema, gates that say what came of it and refuse nothing."""
    held = yaml.safe_load((BASE.parent / "task.yaml").read_text())
    held.update(
        task=task,
        base=str(BASE),
        recipe=recipe,
        triggers={"on_import": False},
        rollout={"canary": {"steps": [50, 100], "min_windows": 5, "window_seconds": 3}},
        evaluation={
            "concurrency": 32,
            "suite": {"max_items": items},
            "metrics": [JUDGED],
            "arms": ["base", "fine_tuned"],
            # A floor of nought is not passed by nought.
            "gates": [
                {"name": "answers", "kind": "non_inferiority", "against": "base", "metric": JUDGED, "margin": 0.99}
            ],
        },
    )
    held["data"] = {
        "columns": {"id": "id", "input": "text", "output": "answer", "rejected": "wrong", "group": "id"},
        "split": {"train": 0.6, "validation": 0.1, "test": 0.3},
    }
    path = directory / f"{task}.yaml"
    path.write_text(yaml.safe_dump(held, sort_keys=False))
    return path


def until(check: Callable[[], Any], what: str) -> Any:
    """Ask again until there is an answer."""
    deadline = time.monotonic() + SECONDS
    while not (answer := check()):
        if time.monotonic() > deadline:
            raise SystemExit(f"no {what} within {SECONDS:.0f} s")
        time.sleep(1.0)
    return answer


def take(running: Stack, home: Path, task: str, recipe: dict[str, Any], items: int) -> Turn:
    """One turn to its first canary step, asked as a user asks."""
    began = time.monotonic()
    running.pawl("apply", str(write_task(home, task, recipe, items)), "--by", "bench")
    before = running.turn(task)
    running.pawl("turn", task, "--by", "bench")

    def on_its_way() -> Any:
        turn = running.turn(task)
        if turn is None or (before is not None and turn.turn_id == before.turn_id):
            return None
        if turn.state in ("failed", "refused", "cancelled"):
            raise SystemExit(f"{task}, {recipe['method']}: {turn.state}: {turn.reason}")
        return turn if turn.state in ("shadow", "canary") else None

    version = until(on_its_way, f"turn of {recipe['method']}").version
    running.pawl("rollout", task, "advance", "--by", "bench", "--reason", "to be asked")
    until(lambda: running.turn(task).state == "canary", "canary step")
    said = running.pawl("generate", f"{task}@{version}", "The VPN of AB-12345 is down for the whole team.")
    report = json.loads(running.pawl("report", task, "--json"))
    from pawl.client import Connection, Pawl

    with Pawl(Connection.find(running.home)) as pawl:
        made = next(each for each in pawl.versions(task) if each.number == version)
    run = json.loads(running.pawl("runs", "show", made.run_id, "--json", "--no-estimate"))
    name = f"{recipe['method']}, seed {recipe.get('seed', 0)}" if task == TASK else f"{recipe['method']} (the teacher)"
    turn = Turn(name, run, report, said.splitlines()[0], made.digest)
    print(f"{name}: {turn.value():.3f} {turn.gain(JUDGED)}, {time.monotonic() - began:.0f} s", flush=True)
    return turn


def close(running: Stack, task: str) -> None:
    """End the rollout, so that the next turn may begin."""
    running.pawl("rollout", task, "abort", "--by", "bench", "--reason", "asked enough")
    until(lambda: running.turn(task).closed_at.seconds, "end of the turn")


def _steps(count: int) -> dict[str, Any]:
    """Small batches: on this base it is the number of steps that counts, and not of rows seen."""
    return {"batch_size": 8, "max_steps": count, "max_length": 384, "epochs": 99}


def recipes(steps: int, seeds: int, teacher: str, endpoint: str) -> list[dict[str, Any]]:
    """What the students train by."""
    one = {"rank": 16, "learning_rate": 4e-3, **_steps(steps)}
    return [
        *({**one, "method": method, "seed": seed} for method in ("lora", "qlora") for seed in range(seeds)),
        {**one, "method": "dpo", "sft_weight": 1.0},
        {**one, "method": "kto", "beta": 0.1, "learning_rate": 2e-3},
        {**one, "method": "distil-logits", "teacher": teacher, "mix": 0.5},
        {**one, "method": "distil-sequence", "teacher": {"endpoint": endpoint, "model": f"{TEACHER}@1",
                                                        "max_tokens": 48}},
    ]  # fmt: skip


def measured(options: argparse.Namespace) -> list[Turn]:
    """Every turn, the teacher's first."""
    home = Path(tempfile.mkdtemp(prefix="methods-"))
    try:
        with stack(home / ".pawl") as running:
            full = {"method": "full", "learning_rate": 5e-4, **_steps(options.teacher_steps)}
            first = recipes(options.steps, options.seeds, "", "")[0]
            for task, recipe, rows, seed in (
                (TEACHER, full, options.teacher_rows, 1), (TASK, first, options.rows, 2),
            ):  # fmt: skip
                running.pawl("apply", str(write_task(home, task, recipe, options.items)), "--by", "bench")
                running.pawl("import", str(write_rows(home / f"{task}.jsonl", rows, seed)), "--task", task)
            turns = [take(running, home, TEACHER, full, options.items)]
            for recipe in recipes(options.steps, options.seeds, turns[0].digest, running.endpoint):
                turns.append(take(running, home, TASK, recipe, options.items))
                close(running, TASK)
            return turns
    finally:
        shutil.rmtree(home, ignore_errors=True)


def told(turns: list[Turn]) -> list[str]:
    """The table and what the bars ask."""
    lines = ["| method | steps | s | exact match | fields right | valid JSON | gain in fields right (95 %) | served |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    base = turns[-1].report["arms"]["base"]
    values = " | ".join(f"{base[metric]['value']:.3f}" for metric in METRICS)
    lines.append(f"| base, untrained | | | {values} | | yes |")
    for turn in turns:
        actual = turn.run["details"]["actual"]
        values = " | ".join(f"{turn.value(metric):.3f}" for metric in METRICS)
        served = "yes" if turn.said.strip() else "NO"
        lines.append(
            f"| {turn.name} | {actual['steps']} | {actual['seconds']:.0f} | {values} | {turn.gain(JUDGED)} | {served} |"
        )
    means = {
        method: statistics.mean(turn.value() for turn in turns if turn.name.startswith(f"{method},"))
        for method in ("lora", "qlora")
    }
    apart = means["qlora"] - means["lora"]
    held = "held" if apart >= -MARGIN else "MISSED"
    lines += ["", f"QLoRA less LoRA, fields right, mean over the seeds: **{apart:+.3f}** (bar: -{MARGIN}; {held})."]
    twin = next(turn for turn in turns if turn.name == "lora, seed 0")
    for turn in turns:
        if turn.name.startswith("distil"):
            lines.append(f"{turn.name} less its twin (lora, seed 0): **{turn.value() - twin.value():+.3f}**.")
    teacher = turns[0].value()
    lines.append(
        f"The teacher itself, on its own suite: {teacher:.3f}; the twin, from right answers only: {twin.value():.3f}: "
        f"{1 - twin.value():.3f} was left to gain on it."
    )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=900)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--items", type=int, default=150)
    parser.add_argument("--teacher-rows", type=int, default=1800)
    parser.add_argument("--teacher-steps", type=int, default=300)
    options = parser.parse_args()
    quiet()
    names = ("rows", "steps", "seeds", "items", "teacher_rows", "teacher_steps")
    said = " ".join(f"--{name.replace('_', '-')} {getattr(options, name)}" for name in names)
    lines = [
        "# Every method from the task file",
        "",
        f"`python -m bench.training_methods {said}`, {platform.machine()}, {os.cpu_count()} cores: through the command",
        "line of a local stack, batches of 8, one frozen suite; what is evaluated is what is served.",
        "",
        *told(measured(options)),
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "training_methods.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
