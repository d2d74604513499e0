"""`pawl turn`, `approve`, `override`, `rollback`, `steer`, `rollout`: deciding things, by name and on the record."""

import time
from typing import Annotated

import typer

from libs.contracts.stubs.pawl.registry.v1 import registry_pb2
from pawl.cli.common import By, Dir, connect, out

ENDS = ("promoted", "refused", "rolled_back", "failed", "cancelled")

Task = Annotated[str, typer.Argument(help="name of the task")]
Version = Annotated[str, typer.Argument(help="a version such as support-triage@3")]
Reason = Annotated[str, typer.Option("--reason", help="why, for the audit log")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(turn)
    app.command()(watch)
    app.command()(approve)
    app.command()(override)
    app.command()(rollback)
    app.command()(steer)
    app.command()(rollout)


def turn(task: Task, by: By, directory: Dir = None) -> None:
    """Open a turn by hand: curate, train, evaluate, roll out."""
    with connect(directory) as pawl:
        opened = pawl.start_turn(task, by=by)
    out.print(f"{opened.turn_id} opened", highlight=False)


def watch(
    task: Task,
    timeout: Annotated[float, typer.Option("--timeout", help="seconds")] = 3600.0,
    directory: Dir = None,
) -> None:
    """Follow the newest turn of a task to its end; status 1 unless it is promoted."""
    seen, waited, deadline = 0, "", time.monotonic() + timeout
    with connect(directory) as pawl:
        while time.monotonic() < deadline:
            turns = pawl.turns(task)
            if turns:
                newest = turns[-1]
                for step in newest.steps[seen:]:
                    out.print(f"{step.at.ToDatetime():%H:%M:%S} {step.state:<18} {step.reason}", highlight=False)
                seen = len(newest.steps)
                if newest.waits_for not in ("", waited):
                    waited = newest.waits_for
                    out.print(f"{'':8} {newest.state:<18} {waited}", style="dim", highlight=False)
                if newest.state in ENDS:
                    raise typer.Exit(0 if newest.state == "promoted" else 1)
            time.sleep(0.5)
        state = f"still {turns[-1].state}" if (turns := pawl.turns(task)) else f"no turn of {task} yet"
    out.print(f"{state} after {timeout:.0f} s")
    raise typer.Exit(1)


def approve(version: Version, by: By, directory: Dir = None) -> None:
    """Approve a version that waits for it."""
    task, number = _version(version)
    with connect(directory) as pawl:
        _say(pawl.approve(task, number, by=by))


def override(
    version: Version,
    waive: Annotated[list[str], typer.Option("--waive", help="a gate that did not pass; name each of them")],
    reason: Reason,
    by: By,
    directory: Dir = None,
) -> None:
    """Waive named gates of a refused version and roll it out; the watch for live harm stays."""
    task, number = _version(version)
    with connect(directory) as pawl:
        _say(pawl.override(task, number, waive, by=by, reason=reason))


def rollback(task: Task, reason: Reason, by: By, directory: Dir = None) -> None:
    """Put the previous stable version back at once."""
    with connect(directory) as pawl:
        done = pawl.roll_back(task, by=by, reason=reason)
    out.print(f"{done.name}: rolled back")


def steer(
    turn_id: Annotated[str, typer.Argument()],
    wish: Annotated[str, typer.Argument(help="pause, run or cancel")],
    by: By,
    reason: Reason = "",
    directory: Dir = None,
) -> None:
    """Pause, resume or cancel the work of a turn."""
    with connect(directory) as pawl:
        _say(pawl.steer(turn_id, wish, by=by, reason=reason))


def rollout(
    task: Task,
    wish: Annotated[str, typer.Argument(help="pause, resume, advance or abort")],
    by: By,
    reason: Reason = "",
    directory: Dir = None,
) -> None:
    """Take the rollout under way in hand; harm shown ends it all the same."""
    with connect(directory) as pawl:
        _say(pawl.steer_rollout(task, wish, by=by, reason=reason))


def _version(name: str) -> tuple[str, int]:
    task, separator, number = name.partition("@")
    if not separator or not number.isdigit():
        raise typer.BadParameter(f"{name!r} must look like support-triage@3")
    return task, int(number)


def _say(turn_now: registry_pb2.Turn) -> None:
    out.print(f"{turn_now.turn_id} {turn_now.state} {turn_now.reason}", highlight=False)
