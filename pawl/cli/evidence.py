"""`pawl evidence` and `pawl live`: whether decisions follow from their evidence, and what production shows now."""

import json
import sys
from typing import Annotated, Any

import typer
from rich.table import Table

from libs.contracts.stubs.pawl.evaluator.v1 import live_pb2
from pawl.cli.common import Dir, connect, out

_LIVE_STAGES = ("shadow", "canary", "promoted", "rolled_back")
_CITED = {
    "assessment": (
        "stage", "version", "generation", "verdict", "e_value", "pairs", "wins", "losses", "windows", "bad_windows"
    ),
    "report": ("report_id", "report_digest", "verdict"),
    "drop": ("number", "version", "floor", "satisfaction", "e_value", "first_window", "last_window"),
}  # fmt: skip
"""What a decision repeats of the conclusion that it rests on, by the kind of that conclusion."""

Task = Annotated[str, typer.Argument(help="name of the task")]
AsJson = Annotated[bool, typer.Option("--json")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(no_args_is_help=True, help="Evidence of decisions, computed again from the ledger.")
    group.command("verify")(verify)
    app.add_typer(group, name="evidence")
    app.command()(live)


def verify(
    task: Task,
    turn_id: Annotated[str, typer.Argument(metavar="[TURN]", help="a turn (default: all of the task)")] = "",
    as_json: AsJson = False,
    directory: Dir = None,
) -> None:
    """Compute assessments, drops, reports and votes again, and look up what decisions rest on; 1 if any differs."""
    with connect(directory) as pawl:
        checks = pawl.verify_evidence(task, turn_id)
        decisions = [each for each in pawl.decisions(task) if not turn_id or each.turn_id == turn_id]
    cited = [line for each in decisions for line in _decision(each, checks)]
    wrong = any(check.finding == "different" for check in checks) or any(not line["holds"] for line in cited)
    if as_json:
        rows = [{name: getattr(each, name) for name in ("turn_id", "kind", "what", "verdict", "finding")} |
                {"differences": list(each.differences)} for each in checks]  # fmt: skip
        sys.stdout.write(json.dumps({"checks": rows, "decisions": cited}, indent=2) + "\n")
    else:
        _print(checks, cited)
    if wrong:
        raise typer.Exit(1)


def live(
    task: Task,
    seconds: Annotated[float, typer.Option("--seconds", help="how far to look back (default: the task's span)")] = 0.0,
    as_json: AsJson = False,
    directory: Dir = None,
) -> None:
    """Satisfaction, errors, latency and the rest per version and segment; drift of inputs; the drop watch."""
    with connect(directory) as pawl:
        told = pawl.live(task, seconds)
    if as_json:
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
        return
    table = Table("version", "segment", "requests", "users", "satisfied", "errors", "escalated", "refused", "invalid",
                  "p95 ms", box=None, pad_edge=False)  # fmt: skip
    for arm in told["versions"]:
        for segment, line in arm["segments"].items():
            rates = [_rate(line[name]) for name in ("satisfaction", "errors", "escalations", "refusals", "invalid")]
            slow = line["latency_p95_ms"]
            table.add_row(
                f"@{arm['version']} {arm['role']}", segment, str(line["requests"]), str(line["users"]), *rates,
                f"{slow['value']:.0f}" if slow else "-",
            )  # fmt: skip
    out.print(table)
    for trait, found in told["drift"]["traits"].items():
        index = found["index"]
        told_as = f"index {index['value']:.2f} [{index['low']:.2f}, {index['high']:.2f}]"
        out.print(f"{trait}: {found['moved']}, {told_as}", highlight=False)
    watch = told["drop_watch"]
    if watch is not None:
        floor = (
            f"at least {watch['floor']:.0%} of users without a bad answer" if watch["floor"] else "learning the usual"
        )
        out.print(f"drop watch: {floor}; evidence {watch['e_value']:.3g} of {watch['needed']:.3g}", highlight=False)


def _decision(decision: Any, checks: list[live_pb2.Check]) -> list[dict[str, Any]]:
    """What a decision cites, and whether that was published and follows from its own evidence."""
    evidence = json.loads(decision.evidence_json or "{}")
    kind, what = _rests_on(decision.action, evidence)
    told = [({"verdict": check.verdict} | json.loads(check.document_json), check) for check in checks
            if check.kind == kind]  # fmt: skip
    if not kind or (kind == "report" and all(one["report_id"] != evidence["report_id"] for one, _ in told)):
        return []  # of many reports only the newest are looked at, or those of the turn that was asked for
    holds = any(
        all(one.get(key) == evidence.get(key) for key in _CITED[kind]) and check.finding != "different"
        for one, check in told
    )
    named = f"{decision.action} on {what}"
    return [{"sequence": decision.sequence, "what": named, "reason": decision.reason, "holds": holds}]


def _rests_on(action: str, evidence: dict[str, Any]) -> tuple[str, str]:
    """The kind of conclusion that a decision cites, and in words which; empty for one that cites none."""
    if action == "drop":
        return "drop", f"drop #{evidence.get('number')}"
    if "report_digest" in evidence:
        return "report", f"report {evidence['report_id']}"
    if action in _LIVE_STAGES and "e_value" in evidence:
        return "assessment", f"{evidence['stage']} {evidence['generation']}"
    return "", ""


def _print(checks: list[live_pb2.Check], cited: list[dict[str, Any]]) -> None:
    table = Table("what", "verdict", "recomputed", "turn", box=None, pad_edge=False)
    for check in checks:
        table.add_row(check.what, check.verdict, check.finding, check.turn_id)
    out.print(table)
    for check in checks:
        for line in check.differences:
            out.print(f"{check.what}: {line}", highlight=False)
    for each in cited:
        found = "rests on what was published" if each["holds"] else "RESTS ON NOTHING THAT HOLDS"
        out.print(f"decision {each['sequence']} ({each['what']}): {found}", highlight=False)
    counts = {name: sum(check.finding == name for check in checks) for name in ("equal", "different", "pruned")}
    out.print(f"{counts['equal']} equal, {counts['different']} different, {counts['pruned']} no longer kept")


def _rate(estimate: dict[str, float] | None) -> str:
    return f"{estimate['value']:.1%} [{estimate['low']:.0%}, {estimate['high']:.0%}]" if estimate else "-"
