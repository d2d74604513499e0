"""`pawl route`: which version a request gets, and why."""

from typing import Annotated

import typer
from rich.table import Table

from libs.contracts.errors import InvalidInput
from pawl.cli.common import Dir, connect, out, short


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    route = typer.Typer(no_args_is_help=True, help="Routing: which version a request gets, and why.")
    route.callback()(_route)
    route.command()(explain)
    app.add_typer(route, name="route")


def _route() -> None:
    """Routing: which version a request gets, and why."""


def explain(
    model: Annotated[str, typer.Argument(help="a task, a version such as support-triage@3, or auto")] = "auto",
    user: Annotated[str, typer.Option("--user", help="the user that a canary is sticky on")] = "",
    segment: Annotated[str, typer.Option("--segment", help="the user's segment")] = "",
    task_type: Annotated[str, typer.Option("--task-type", help="what kind of work is asked for")] = "",
    domain: Annotated[str, typer.Option("--domain", help="the subject")] = "",
    header: Annotated[list[str] | None, typer.Option("--header", help="NAME=VALUE; may be repeated")] = None,
    directory: Dir = None,
) -> None:
    """Show the version that a request would get, every rule looked at, and why; nothing is generated."""
    facts = dict(_pair(each) for each in header or ())
    facts |= {name: value for name, value in (("task_type", task_type), ("domain", domain)) if value}
    with connect(directory) as pawl:
        told = pawl.explain_route(model, user=user, segment=segment, facts=facts)
    if told.rules:
        table = Table("rule", "holds", "why", box=None, pad_edge=False)
        for each in told.rules:
            table.add_row(each.rule, "yes" if each.holds else "no", each.why)
        out.print(table)
    engines = ", ".join(told.engines) or "no engine has it"
    out.print(
        f"{told.model_version} ({told.role}, {short(told.digest)}) on {engines}, route {told.route_generation}",
        highlight=False,
    )
    out.print(told.reason, highlight=False)


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise InvalidInput(f"{text!r} must look like NAME=VALUE", field="--header")
    return name.lower(), value
