"""`pawl evaluate`, `report`, `power`: what a version is worth, and how much a suite can tell."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from libs.contracts.errors import InvalidInput, NotFound
from libs.contracts.task import EvaluationSpec, GateSpec
from libs.contracts.task.evaluation import MIN_ITEMS, TASK_SUITE
from libs.statistics.power import DISCORDANCES, floor_power, floor_size, prospects
from pawl.cli.common import Dir, connect, out
from pawl.client.calls.registry import read_task

Task = Annotated[str, typer.Argument(help="name of the task")]
_CLEAR = (0.02, 0.05, 0.1)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (evaluate, report, power):
        app.command()(command)


def evaluate(
    version: Annotated[str, typer.Argument(help="a version in the route, such as support-triage@3")],
    suite: Annotated[Path | None, typer.Option("--suite", help="items of your own, JSON lines")] = None,
    task_file: Annotated[
        Path | None, typer.Option("--task-file", help="take the evaluation section of this file")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="seconds")] = 3600.0,
    html: Annotated[Path | None, typer.Option("--html", help="write the report as a page")] = None,
    directory: Dir = None,
) -> None:
    """Evaluate a version by hand; status 1 unless it passes. The report decides nothing: only a turn's own does."""
    task, separator, number = version.partition("@")
    if not separator or not number.isdigit():
        raise typer.BadParameter(f"{version!r} must look like support-triage@3")
    section: EvaluationSpec | None = read_task(task_file).evaluation if task_file is not None else None
    if section is not None and suite is not None and suite.is_file():
        _foretell(section, suite)
    deadline = time.monotonic() + timeout
    with connect(directory) as pawl, out.status(f"evaluating {version}"):
        begun = pawl.evaluate(task, int(number), suite=suite, evaluation=section)
        state = begun
        while state.state == "running":
            if time.monotonic() > deadline:
                out.print(f"{begun.report_id} is still being made: `pawl report {task} --id {begun.report_id}`")
                raise typer.Exit(1)
            time.sleep(0.5)
            state = pawl.report_state(begun.report_id)
        if state.state == "failed":
            raise InvalidInput(f"no report: {state.reason}", field="evaluation")
        whole = pawl.report(begun.report_id)
        if html is not None:
            html.write_text(pawl.report_page(begun.report_id), encoding="utf-8")
    _show(task, whole)
    raise typer.Exit(0 if whole["verdict"] == "pass" else 1)


def report(
    task: Task,
    report_id: Annotated[str, typer.Option("--id", help="default: the newest")] = "",
    as_json: Annotated[bool, typer.Option("--json")] = False,
    html: Annotated[Path | None, typer.Option("--html", help="write it as one self-contained page")] = None,
    directory: Dir = None,
) -> None:
    """An evaluation report: gates with verdicts, arms with intervals, costs, the approach to use."""
    with connect(directory) as pawl:
        if not report_id:
            newest = next((each for each in pawl.reports(task) if each.verdict), None)
            if newest is None:
                raise NotFound(f"no report of {task} yet", field="task")
            report_id = newest.report_id
        whole = pawl.report(report_id)
        if html is not None:
            html.write_text(pawl.report_page(report_id), encoding="utf-8")
            out.print(f"written: {html}", highlight=False)
    if as_json:
        sys.stdout.write(json.dumps(whole, indent=2) + "\n")
    elif html is None:
        _show(task, whole)


def power(
    task_file: Annotated[Path, typer.Argument(help="the task's YAML file")],
    items: Annotated[int | None, typer.Option("--items", "-n", help="default: the suite's max_items")] = None,
) -> None:
    """What each gate of a task file can show on a suite, before anything is run."""
    evaluation = read_task(task_file).evaluation
    n = items if items is not None else evaluation.suite.max_items
    if n < 1:
        raise InvalidInput("there must be at least one item", field="--items")
    if n < MIN_ITEMS:
        out.print(f"{n} items are fewer than {MIN_ITEMS}: every gate will be inconclusive", highlight=False)
    for gate in evaluation.gates:
        out.print(_power(gate, n))


def _foretell(section: EvaluationSpec, suite: Path) -> None:
    """What the gates can show on a file of items, said before anything is generated."""
    items = sum(1 for line in suite.read_text(encoding="utf-8").splitlines() if line.strip())
    for gate in section.gates:
        if gate.suite == TASK_SUITE and items:
            out.print(_power(gate, items))


def _power(gate: GateSpec, n: int) -> Table:
    title = f"{gate.name}: {gate.kind} of {gate.metric}, {n} items, alpha {gate.alpha:g}"
    if gate.kind == "floor":
        at_least = gate.at_least or 0.0
        table = Table(
            "true value", f"cleared ({at_least:g})", "items for 80 %", title=title, title_justify="left", box=None
        )
        for share in dict.fromkeys(min(1.0, at_least + above) for above in _CLEAR):
            size = floor_size(share, at_least, alpha=gate.alpha)
            shown = f"{floor_power(n, share, at_least, alpha=gate.alpha):.0%}"
            table.add_row(f"{share:.3g}", shown, "never" if size is None else f"{size:,}")
        return table
    bound = -gate.margin if gate.kind == "non_inferiority" else gate.margin
    heads = ("arms differ on", "smallest difference shown", "equal arms pass", "items for that, 80 %")
    table = Table(*heads, title=f"{title}, bound {bound:+g}", title_justify="left", box=None)
    for each in prospects(n, bound, alpha=gate.alpha, discordances=DISCORDANCES):
        table.add_row(
            f"{each.discordance:.0%}",
            "none" if each.detectable is None else f"{each.detectable:+.1%}",
            f"{each.power:.0%}",
            "-" if each.size is None else f"{each.size:,}",
        )
    return table


def _show(task: str, whole: dict[str, Any]) -> None:
    out.print(f"{task}@{whole['version']}: {whole['verdict']}  ({whole['report_id']})", highlight=False)
    _estimates(whole["arms"])
    table = Table("gate", "verdict", "why", box=None, pad_edge=False)
    for gate in whole["gates"]:
        table.add_row(gate["gate"], gate["verdict"], gate["reason"])
    out.print(table)
    _differences(whole, whole["order"][0])
    for name, suite in (whole.get("suites") or {}).items():
        out.print(f"suite {name} ({suite['kind']})", highlight=False)
        _estimates(suite["arms"])
        _differences(suite, suite["order"][0])
    _costs(whole.get("costs") or {})
    advice = whole.get("recommendation") or {}
    if advice.get("arm"):
        sure = "" if advice["sure"] else " (not shown beyond chance)"
        out.print(f"use {advice['arm']}{sure}: {'; '.join(advice['why'])}", highlight=False)


def _estimates(arms: dict[str, Any]) -> None:
    table = Table("arm", "metric", "value", "95 % interval", "n", box=None, pad_edge=False)
    for arm, metrics in arms.items():
        for metric, e in metrics.items():
            table.add_row(arm, metric, f"{e['value']:.3f}", f"{e['low']:.3f} to {e['high']:.3f}", str(e["n"]))
    out.print(table)


def _differences(sheet: dict[str, Any], candidate: str) -> None:
    """The candidate less each other arm; what two runs of the arms may give by themselves is greyed out."""
    table = Table(f"{candidate} less", "metric", "difference", "95 % interval", "", box=None, pad_edge=False)
    for arm, metrics in (sheet.get("differences") or {}).items():
        for metric, e in metrics.items():
            noisy = e.get("below_noise")
            told = "below the noise floor" if noisy else f"{e['wins']} won, {e['losses']} lost" if "wins" in e else ""
            within = f"{e['low']:+.3f} to {e['high']:+.3f}"
            table.add_row(arm, metric, f"{e['value']:+.3f}", within, told, style="dim" if noisy else None)
    for arm, metrics in (sheet.get("incomparable") or {}).items():
        for metric, why in metrics.items():
            table.add_row(arm, metric, "-", "not subtracted", why, style="dim")
    if table.row_count:
        out.print(table)


def _costs(costs: dict[str, Any]) -> None:
    table = Table("arm", "tokens in + out", "seconds", "a thousand answers", "reused", box=None, pad_edge=False)
    for arm, cost in costs.items():
        table.add_row(
            arm,
            f"{cost['prompt_tokens']:.0f} + {cost['completion_tokens']:.0f}",
            f"{cost['seconds_median']:.2f}",
            "-" if cost["per_thousand"] is None else f"{cost['per_thousand']:.4g}",
            f"{cost['reused']} of {cost['answers']}",
        )
    if costs:
        out.print(table)
