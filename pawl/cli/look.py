"""`pawl tasks`, `turns`, `versions`, `dataset`, `decisions`, `dead`: looking at things."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import nats
import typer
from nats.aio.client import Client
from nats.errors import Error as NatsError
from rich.table import Table

from libs.contracts.errors import Unavailable
from libs.eventing.connection import inbox_prefix
from libs.eventing.deadletters import list_dead, redrive
from pawl.cli.common import Dir, connect, out, short
from pawl.client import Connection

Task = Annotated[str, typer.Argument(help="name of the task")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (tasks, turns, versions, dataset, decisions):
        app.command()(command)
    dead = typer.Typer(no_args_is_help=True, help="Dead letters: what could not be handled, and why.")
    dead.command("list")(dead_list)
    dead.command("redrive")(dead_redrive)
    app.add_typer(dead, name="dead")


def tasks(directory: Dir = None) -> None:
    """Tasks and who answers for them."""
    table = Table("task", "revision", "base", "route", box=None, pad_edge=False)
    with connect(directory) as pawl:
        for task in pawl.tasks():
            arms = json.loads(task.route_json or "{}").get("arms", [])
            route = ", ".join(
                f"@{arm['version']} {arm['role']}" + (f" {arm['share']:.0%}" if arm["share"] else "") for arm in arms
            )
            table.add_row(task.name, str(task.revision), short(task.base_digest), route)
    out.print(table)


def turns(task: Task, directory: Dir = None) -> None:
    """Turns of a task."""
    table = Table("turn", "trigger", "state", "version", "reason", box=None, pad_edge=False)
    with connect(directory) as pawl:
        for each in pawl.turns(task):
            table.add_row(
                each.turn_id,
                each.trigger,
                each.state,
                f"@{each.version}" if each.version else "-",
                each.waits_for or each.reason,
            )
    out.print(table)


def versions(task: Task, directory: Dir = None) -> None:
    """Model versions of a task."""
    table = Table("version", "status", "digest", "run", "report", box=None, pad_edge=False)
    with connect(directory) as pawl:
        for each in pawl.versions(task):
            table.add_row(
                f"{each.task}@{each.number}", each.status, short(each.digest), each.run_id or "-", each.report_id or "-"
            )
    out.print(table)


def dataset(
    task: Task,
    number: Annotated[int, typer.Option("--number", "-n", help="0: the newest")] = 0,
    as_json: Annotated[bool, typer.Option("--json")] = False,
    directory: Dir = None,
) -> None:
    """A dataset version: what is in it, what was removed and why."""
    with connect(directory) as pawl:
        found, whole = pawl.dataset(task, number)
    if as_json:
        sys.stdout.write(json.dumps(whole, indent=2) + "\n")
        return
    out.print(
        f"dataset {found.number} of {found.task}: {short(found.digest)}, suite version {found.suite_version}",
        highlight=False,
    )
    for title, counts in (("split", found.splits), ("removed because", found.removed), ("category", found.categories)):
        table = Table(title, "rows", box=None, pad_edge=False)
        for name, rows in sorted(counts.items(), key=lambda pair: -pair[1]):
            table.add_row(name, str(rows))
        out.print(table)


def decisions(task: Task, directory: Dir = None) -> None:
    """The audit log of a task."""
    table = Table("#", "at", "what", "by", "why", box=None, pad_edge=False)
    with connect(directory) as pawl:
        for each in pawl.decisions(task):
            table.add_row(str(each.sequence), f"{each.at.ToDatetime():%H:%M:%S}", each.action, each.by, each.reason)
    out.print(table)


def dead_list(directory: Dir = None) -> None:
    """Dead letters with their reasons."""

    async def run() -> list[Any]:
        client = await _broker(directory)
        try:
            return list(await list_dead(client.jetstream()))
        finally:
            await client.close()

    table = Table("#", "subject", "deliveries", "reason", box=None, pad_edge=False)
    for letter in asyncio.run(run()):
        table.add_row(str(letter.seq), letter.subject, str(letter.deliveries), letter.reason)
    out.print(table)


def dead_redrive(
    sequence: Annotated[int, typer.Argument(help="number, as in `pawl dead list`")], directory: Dir = None
) -> None:
    """Send a dead letter on its way again."""

    async def run() -> None:
        client = await _broker(directory)
        try:
            await redrive(client.jetstream(), sequence)
        finally:
            await client.close()

    asyncio.run(run())
    out.print(f"dead letter {sequence} is on its way again")


async def _broker(directory: Path | None) -> Client:
    where = Connection.find(directory)
    proof = {"user": "pawl", "password": where.nats_password} if where.nats_password else {}
    try:
        return await nats.connect(
            where.address("nats"), inbox_prefix=inbox_prefix("pawl"), allow_reconnect=False, **proof
        )
    except (NatsError, OSError) as error:
        raise Unavailable(f"no answer from the broker at {where.address('nats')}: {error}") from error
