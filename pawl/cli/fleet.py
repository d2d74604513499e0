"""`pawl fleet` and `pawl usage`: engines and their slots, and who used what."""

from collections.abc import Iterable
from typing import Annotated

import typer
from rich.table import Table

from libs.contracts.errors import InvalidInput
from libs.contracts.stubs.pawl.serving.v1 import operations_pb2
from pawl.cli.common import Dir, connect, out, short

FIELDS = ("day", "tenant", "task", "version", "purpose", "key")


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(fleet)
    app.command()(usage)


def fleet(directory: Dir = None) -> None:
    """Show every engine, the adapters it holds, and what the routes want of it; say where that does not fit."""
    with connect(directory) as pawl:
        told = pawl.fleet()
    table = Table(
        "engine", "base", "slots", "in memory", "pinned", "cold", "failed", "in flight", "waiting", "heard of"
    )
    for each in told.engines:
        table.add_row(
            each.engine_id,
            short(each.base_digest),
            str(each.slots),
            f"{max(0, len(each.routable) - 1)} of {each.max_adapters}",
            str(len(each.pinned)),
            str(len(each.cold)),
            str(len(each.failed)),
            str(each.in_flight),
            str(each.waiting),
            f"{each.silent_seconds:.0f} s ago",
        )
    out.print(table)
    for demand in told.demands:
        wants = f"{demand.serving} adapters with users, {demand.standby} on standby, {demand.others} others"
        out.print(f"base {short(demand.base_digest)}: {wants}; {demand.advice or 'everything fits'}", highlight=False)
    for engine in told.engines:
        for digest, why in sorted(engine.failed.items()):
            out.print(f"{engine.engine_id}: {short(digest)} cannot be served: {why}", highlight=False)


def usage(
    since: Annotated[str, typer.Option("--since", help="first day, such as 2026-01-31 (UTC)")] = "",
    until: Annotated[str, typer.Option("--until", help="last day, included")] = "",
    by: Annotated[str, typer.Option("--by", help=f"comma-separated, of {', '.join(FIELDS)}")] = "tenant,task,version",
    directory: Dir = None,
) -> None:
    """Show answers, tokens, engine time and its cost, as this gateway counted them."""
    fields = [each.strip() for each in by.split(",") if each.strip()]
    unknown = [each for each in fields if each not in FIELDS]
    if unknown or not fields:
        raise InvalidInput(f"{by!r} must name some of {', '.join(FIELDS)}", field="--by")
    with connect(directory) as pawl:
        lines = pawl.usage(since, until)
    table = Table(*fields, "answers", "tokens in", "tokens out", "engine seconds", "cost")
    for group, sums in grouped(lines, fields):
        answers, prompt, completion, seconds, cost = sums
        counts = (f"{answers:.0f}", f"{prompt:.0f}", f"{completion:.0f}", f"{seconds:.1f}", f"{cost:.4f}")
        table.add_row(*group, *counts)
    out.print(table)


def grouped(
    lines: Iterable[operations_pb2.UsageLine], fields: list[str]
) -> list[tuple[tuple[str, ...], tuple[float, ...]]]:
    """Sums of answers, tokens in and out, engine seconds and cost by the fields named, in their order."""
    sums: dict[tuple[str, ...], tuple[float, ...]] = {}
    for line in lines:
        group = tuple(str(getattr(line, field)) for field in fields)
        held = (line.answers, line.prompt_tokens, line.completion_tokens, line.engine_seconds, line.cost)
        sums[group] = tuple(a + b for a, b in zip(sums.get(group, (0.0,) * 5), held, strict=True))
    return sorted(sums.items())
