"""`pawl review`: the queue of what only a person can decide."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from libs.contracts.errors import InvalidInput
from pawl.cli.common import By, Dir, connect, out

Task = Annotated[str, typer.Argument(help="name of the task")]
Item = Annotated[str, typer.Argument(help="id of the item, as in `pawl review list`")]
Note = Annotated[str, typer.Option("--note", help="why")]
KindOption = Annotated[
    str, typer.Option("--kind", help="contradiction, mislabel, conflict, quality, category or synthetic")
]
_SHOWN = 60


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    review = typer.Typer(no_args_is_help=True, help="Review: what only a person can decide, the most valuable first.")
    review.command("list")(list_items)
    for command in (show, approve, edit, reject):
        review.command()(command)
    review.command("export")(export_items)
    review.command("import")(import_decisions)
    app.add_typer(review, name="review")


def list_items(
    task: Task,
    state: Annotated[str, typer.Option("--state", help="pending, approved, edited, rejected or all")] = "pending",
    kind: KindOption = "",
    limit: Annotated[int, typer.Option("-n", help="most items shown")] = 20,
    directory: Dir = None,
) -> None:
    """Items, the most valuable first."""
    with connect(directory) as pawl:
        found = pawl.review(task, state=state, kind=kind, limit=limit)
    table = Table("item", "kind", "value", "reason", "input", box=None, pad_edge=False)
    for each in found.items:
        text = " ".join(each.input.split())
        shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
        table.add_row(each.item_id, each.kind, f"{each.value:.2f}", each.reason, shown)
    out.print(table)
    out.print(f"{len(found.items)} of {found.total}", highlight=False)


def show(task: Task, item: Item, directory: Dir = None) -> None:
    """One item in full."""
    with connect(directory) as pawl:
        found = pawl.review_item(task, item)
    for name in ("item_id", "row_id", "kind", "state", "reason", "category", "input", "answer", "suggestion",
                 "lineage_json", "decided_by", "note"):  # fmt: skip
        value = getattr(found, name)
        if value:
            out.print(f"{name}: {value}", highlight=False, markup=False)


def approve(task: Task, item: Item, by: By, note: Note = "", directory: Dir = None) -> None:
    """The row is right: it may train, and nothing suspects it again."""
    _decide(task, item, "approved", by=by, note=note, directory=directory)


def edit(
    task: Task,
    item: Item,
    by: By,
    answer: Annotated[str | None, typer.Option("--answer", help="the right answer")] = None,
    category: Annotated[str | None, typer.Option("--category", help="the right category")] = None,
    text: Annotated[str | None, typer.Option("--input", help="the input as it should read")] = None,
    note: Note = "",
    directory: Dir = None,
) -> None:
    """The row is right once this is changed."""
    if answer is None and category is None and text is None:
        raise InvalidInput("what is to change? give --answer, --category or --input", field="edit")
    edits = {"answer": answer, "category": category, "input": text}
    _decide(task, item, "edited", by=by, note=note, directory=directory, **edits)


def reject(task: Task, item: Item, by: By, note: Note = "", directory: Dir = None) -> None:
    """The row must not be used."""
    _decide(task, item, "rejected", by=by, note=note, directory=directory)


def export_items(
    task: Task,
    file: Annotated[Path, typer.Argument(help="where to write the tasks (JSON)")],
    kind: KindOption = "",
    config: Annotated[Path | None, typer.Option("--config", help="write the labelling configuration here")] = None,
    limit: Annotated[int, typer.Option("-n", help="most items")] = 1000,
    directory: Dir = None,
) -> None:
    """Open items as Label Studio tasks."""
    with connect(directory) as pawl:
        found = pawl.export_review(task, kind=kind, limit=limit)
    file.write_text(found.tasks_json, encoding="utf-8")
    if config is not None:
        config.write_text(found.config_xml, encoding="utf-8")
    out.print(f"tasks: {file}" + (f", configuration: {config}" if config else ""), highlight=False)


def import_decisions(
    task: Task,
    file: Annotated[Path, typer.Argument(help="a JSON export of Label Studio")],
    by: By,
    directory: Dir = None,
) -> None:
    """Decisions made in Label Studio."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file}: cannot be read: {error}", field="file") from error
    with connect(directory) as pawl:
        done = pawl.import_review(task, text, by=by)
    out.print(f"{done.approved} approved, {done.edited} edited, {done.rejected} rejected", highlight=False)
    for problem in done.problems:
        out.print(f"left out: {problem}", highlight=False, markup=False)


def _decide(
    task: str, item: str, state: str, *, by: str, note: str, directory: Path | None, **edits: str | None
) -> None:
    with connect(directory) as pawl:
        found = pawl.decide(task, item, state, by=by, note=note, **edits)
    out.print(f"{found.item_id}: {found.state} by {found.decided_by}", highlight=False)
