"""`pawl data`: what is there, what became of each row, and what may be changed or erased."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from libs.contracts.errors import InvalidInput
from libs.contracts.openai_job import task_of
from pawl.cli.common import By, Dir, connect, out, short

Task = Annotated[str, typer.Argument(help="name of the task")]
Number = Annotated[int, typer.Option("--number", "-n", help="dataset version; 0: the newest")]
AsJson = Annotated[bool, typer.Option("--json", help="everything, as JSON")]
Reason = Annotated[str, typer.Option("--reason", help="why, for the audit log")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    data = typer.Typer(no_args_is_help=True, help="Datasets: audit, card, diff, history of a row, rules, erasure.")
    for command in (audit, card, diff, history, rules, undo, restore, categories, synthesise, erase):
        data.command()(command)
    data.command("from-job")(from_job)
    app.add_typer(data, name="data")


def audit(
    task: Task,
    page: Annotated[Path | None, typer.Option("--html", help="write the page with its plots here")] = None,
    as_json: AsJson = False,
    directory: Dir = None,
) -> None:
    """What is there, before anything is changed."""
    with connect(directory) as pawl, out.status(f"auditing {task}"):
        found = pawl.audit(task)
    if page is not None:
        page.write_text(found.audit_html, encoding="utf-8")
    if as_json:
        sys.stdout.write(found.audit_json + "\n")
        return
    told = json.loads(found.audit_json)
    rows, would = told["rows"], told["policy_would"]
    out.print(
        f"{task}: {rows['total']} rows, {rows['with_answer']} with an answer, {rows['users']} users", highlight=False
    )
    read = sum(told["languages"].values())
    _counts("language" if read == rows["total"] else f"language of {read} rows", told["languages"])
    _counts("category", told["categories"]["counts"])
    _counts("personal data", told["personal_data"]["values"])
    _counts("format error", told["format_errors"]["counts"])
    _counts("the policy would", {**would["edit"], **would["merge"], **would["quarantine"]})
    _counts("it would ask about", would["ask"])
    if told["tokens"]["counted"]:
        tokens = told["tokens"]
        out.print(
            f"tokens: median {tokens['quantiles']['0.5']}, longest {tokens['quantiles']['1']}, "
            f"{tokens['over_max_length']} rows over {tokens['max_length']}",
            highlight=False,
        )
    if page is not None:
        out.print(f"page: {page}", highlight=False)


def card(
    task: Task,
    number: Number = 0,
    croissant: Annotated[bool, typer.Option("--croissant", help="the Croissant document instead")] = False,
    directory: Dir = None,
) -> None:
    """The card of a dataset version, as the Hugging Face hub reads it."""
    with connect(directory) as pawl:
        found = pawl.card(task, number)
    sys.stdout.write((found.croissant_json if croissant else found.card) + "\n")


def diff(
    task: Task,
    before: Annotated[int, typer.Argument(help="dataset version")],
    after: Annotated[int, typer.Argument(help="dataset version")],
    as_json: AsJson = False,
    directory: Dir = None,
) -> None:
    """What changed from one dataset version to another, and by which rule."""
    with connect(directory) as pawl:
        told = pawl.diff(task, before, after)
    if as_json:
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
        return
    rows = told["rows"]
    out.print(f"{task}: {rows['before']} rows in {before}, {rows['after']} in {after}", highlight=False)
    _pairs("split", told["splits"])
    _counts("added, was", told["added"]["was"])
    _counts("removed by", told["removed"]["by"])
    _pairs("category", told["categories"])
    rewritten, moved = told["rewritten"]["rows"], told["moved_between_splits"]["rows"]
    out.print(f"{rewritten} rewritten, {moved} moved between splits", highlight=False)


def history(
    task: Task,
    row: Annotated[str, typer.Argument(help="id of the row, as in a dataset line")],
    number: Number = 0,
    directory: Dir = None,
) -> None:
    """Everything that happened to one row."""
    with connect(directory) as pawl:
        found = pawl.history(task, row, number)
    out.print(f"{row} in dataset {found.number}: group {found.group}, split {found.split or '-'}", highlight=False)
    table = Table("step", "rule", "outcome", "evidence", "because", box=None, pad_edge=False)
    for each in found.entries:
        table.add_row(each.step, f"{each.rule} v{each.version}", each.outcome, each.evidence, each.says)
    out.print(table)


def rules(task: Task, directory: Dir = None) -> None:
    """The rules of curation; those that may be undone, and those that are."""
    with connect(directory) as pawl:
        found = pawl.rules(task)
    table = Table("rule", "step", "does", "state", "says", box=None, pad_edge=False)
    for each in found:
        state = f"undone by {each.decided_by}" if each.undone else "on" if each.optional else "always"
        table.add_row(each.name, each.step, each.outcome, state, each.says)
    out.print(table)


def undo(
    task: Task, rule: Annotated[str, typer.Argument()], by: By, reason: Reason = "", directory: Dir = None
) -> None:
    """Undo a rule: the next dataset version is built without it."""
    _set(task, rule, undone=True, by=by, reason=reason, directory=directory)


def restore(
    task: Task, rule: Annotated[str, typer.Argument()], by: By, reason: Reason = "", directory: Dir = None
) -> None:
    """Put a rule back that was undone."""
    _set(task, rule, undone=False, by=by, reason=reason, directory=directory)


def categories(
    task: Task,
    count: Annotated[int, typer.Option("--count", "-c", help="how many; 0 lets the rows decide")] = 0,
    as_json: AsJson = False,
    directory: Dir = None,
) -> None:
    """Propose categories by clustering; to adopt some, declare them in data.curation.taxonomy."""
    with connect(directory) as pawl, out.status(f"clustering the rows of {task}"):
        told = pawl.categories(task, count)
    if as_json:
        sys.stdout.write(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
        return
    table = Table("category", "rows", "words", "present categories", box=None, pad_edge=False)
    for each in told["categories"]:
        present = ", ".join(f"{name} {rows}" for name, rows in each["present"].items())
        table.add_row(each["name"], str(each["rows"]), ", ".join(each["words"]), present)
    out.print(table)


def synthesise(
    task: Task,
    by: By,
    count: Annotated[int, typer.Option("--count", "-c", help="examples to ask for")] = 20,
    category: Annotated[str, typer.Option("--category", help="empty: the weakest first")] = "",
    directory: Dir = None,
) -> None:
    """Ask the task's teacher for examples; every one waits in the review queue."""
    with connect(directory) as pawl, out.status(f"the teacher of {task} writes"):
        done = pawl.synthesise(task, count, category=category, by=by)
    out.print(f"{done.queued} examples wait for review, after {done.calls} calls", highlight=False)
    _counts("category", dict(done.categories))
    _counts("dropped because", dict(done.dropped))


def erase(
    task: Task,
    user: Annotated[str, typer.Argument(help="the user, or the 64 hex digits of their hash")],
    by: By,
    reason: Reason = "",
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    directory: Dir = None,
) -> None:
    """Erase a subject: rows, what was derived from them, and indexes; dataset versions touched are quarantined."""
    if not yes and not typer.confirm(f"erase everything of {user} in {task}? this cannot be undone"):
        raise typer.Exit(1)
    with connect(directory) as pawl:
        done = pawl.erase(task, user, by=by, reason=reason)
    out.print(
        f"{done.rows} rows, {done.synthetic_rows} synthetic ones and {done.review_items} review items: {done.state}",
        highlight=False,
    )
    table = Table("quarantined dataset", "digest", "rows of the subject", "suite items", box=None, pad_edge=False)
    for each in done.touched:
        rows = ", ".join(f"{name} {count}" for name, count in sorted(each.rows.items()))
        table.add_row(str(each.number), short(each.digest), rows, str(each.suite_items))
    out.print(table)
    touched = {each.digest for each in done.touched}
    # What is erased is erased and told, whether or not the registry answers.
    with connect(directory) as pawl:
        for version in pawl.versions(task) if touched else ():
            if version.dataset_digest in touched:
                out.print(
                    f"{version.task}@{version.number} ({version.status}) was trained on one of them: adapter "
                    f"{short(version.adapter_digest)}",
                    highlight=False,
                )


def from_job(
    job: Annotated[Path, typer.Argument(help="JSON of a fine-tuning job, as sent to or told by OpenAI's API")],
    base: Annotated[str, typer.Option("--base", help="the model to train in place of theirs")],
    task: Annotated[str, typer.Option("--task", help="name of the task (default: the job's suffix)")] = "",
) -> None:
    """Print the task file that a fine-tuning job of OpenAI's API amounts to; `pawl import` takes its training file."""
    sys.stdout.write(task_of(job.read_text(encoding="utf-8"), base, task))


def _set(task: str, rule: str, *, undone: bool, by: str, reason: str, directory: Path | None) -> None:
    if not reason:
        raise InvalidInput("give a --reason: it stands in the record of the next dataset", field="--reason")
    with connect(directory) as pawl:
        found = pawl.set_rule(task, rule, undone=undone, by=by, reason=reason)
    state = "undone" if found.undone else "on"
    out.print(f"{found.name} is {state} from the next dataset version of {task}", highlight=False)


def _counts(title: str, counts: dict[str, Any]) -> None:
    if counts:
        table = Table(title, "rows", box=None, pad_edge=False)
        for name, rows in counts.items():
            table.add_row(name, str(rows))
        out.print(table)


def _pairs(title: str, pairs: dict[str, list[int]]) -> None:
    table = Table(title, "before", "after", box=None, pad_edge=False)
    for name, (before, after) in pairs.items():
        table.add_row(name, str(before), str(after))
    out.print(table)
