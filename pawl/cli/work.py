"""`pawl apply`, `import`, `quarantine`, `feedback`, `generate`: putting things in and asking for answers."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from libs.contracts.errors import InvalidInput
from libs.contracts.feedback import Feedback
from pawl.cli.common import By, Dir, connect, out, short
from pawl.cli.importing import imported

Task = Annotated[str, typer.Option("--task", "-t", help="name of the task")]
SHOWN_ROWS = 10
AT_ONCE = 50
"""Events in one request: as many of the longest texts as a message may hold."""


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(apply)
    app.command("import")(import_file)
    app.command()(quarantine)
    app.command()(feedback)
    app.command()(generate)


def apply(
    task_file: Annotated[Path, typer.Argument(help="the task's YAML file")],
    by: By,
    directory: Dir = None,
) -> None:
    """Declare or change a task; its base model is uploaded by digest."""
    with connect(directory) as pawl:
        task, changed = pawl.apply(task_file, by=by)
    word = "applied" if changed else "unchanged"
    out.print(
        f"{task.name}: {word}, revision {task.revision}, base {short(task.base_digest)}",
        highlight=False,
    )


def import_file(
    file: Annotated[str, typer.Argument(help="JSONL, JSON, CSV or Parquet, packed or not; or s3://bucket/key")],
    task: Task,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", "-c", help="field=column, over the task's map; field= for no column; may be repeated"),
    ] = None,
    file_format: Annotated[
        str, typer.Option("--format", help="jsonl, json, csv or parquet (default: told from the file)")
    ] = "",
    shape: Annotated[
        str, typer.Option("--shape", help="openai-messages, trl-preference, alpaca... (default: told from the records)")
    ] = "",
    source: Annotated[str, typer.Option("--source", help="provenance of the rows (default: the file's name)")] = "",
    directory: Dir = None,
) -> None:
    """Import a file of examples; malformed rows are named and set aside, never dropped in silence."""
    columns = dict(_pair(each) for each in column or [])
    with connect(directory) as pawl:
        done = imported(
            pawl, task, file, columns=columns, file_format=file_format, shape=shape, source=source
        )  # fmt: skip
    counts = f"{done.accepted} accepted, {done.already_seen} already known, {done.quarantined} set aside"
    kind = f"{done.format}, {done.shape}" if done.shape else done.format
    out.print(f"{done.name} ({kind}): {done.rows} rows, {counts}", highlight=False)
    if done.unread:
        names = ", ".join(done.unread[:SHOWN_ROWS]) + (", ..." if len(done.unread) > SHOWN_ROWS else "")
        out.print(f"not read, as no field is mapped to them: {names}", highlight=False, markup=False)
    if done.quarantined:
        table = Table("row", "field", "reason", box=None, pad_edge=False)
        for row in done.quarantine[:SHOWN_ROWS]:
            table.add_row(str(row.row), Text(row.field), Text(row.reason))
        out.print(table)
        out.print(f"all of them, as they lay: pawl quarantine {done.import_id}", highlight=False)


def quarantine(
    import_id: Annotated[str, typer.Argument(help="the import, as `pawl import` named it")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="file to write (default: the screen)")] = None,
    directory: Dir = None,
) -> None:
    """Every record that an import set aside, one JSON object a line: row, field, reason and the record as it lay."""
    with connect(directory) as pawl:
        chunks = pawl.quarantine(import_id)
        if output is None:
            for chunk in chunks:
                sys.stdout.buffer.write(chunk)
            return
        first = next(chunks, b"")
        with output.open("wb") as target:
            target.write(first)
            for chunk in chunks:
                target.write(chunk)


def feedback(
    file: Annotated[Path, typer.Argument(help="JSON lines, one event each; - reads standard input")],
    task: Task,
    directory: Dir = None,
) -> None:
    """Publish feedback events; answers when the broker has them."""
    try:
        text = (sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()).decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file}: is not UTF-8 text (byte {error.start})", field="file") from error
    # What is wrong anywhere stops all of it: half a file sent again would count twice where events have no id.
    events = [_event(line, f"{file}:{number}") for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    with connect(directory) as pawl:
        accepted = sum(
            len(pawl.feedback(task, events[start : start + AT_ONCE])) for start in range(0, len(events), AT_ONCE)
        )
    out.print(f"{accepted} events accepted")


def generate(
    model: Annotated[str, typer.Argument(help="a task (support-triage) or a version of it (support-triage@7)")],
    text: Annotated[str, typer.Argument(help="the user's message")],
    user: Annotated[str, typer.Option("--user")] = "",
    directory: Dir = None,
) -> None:
    """Ask for one answer, and say what gave it."""
    with connect(directory) as pawl:
        answer = pawl.generate(model, text, user=user)
    sys.stdout.write(answer.text + "\n")
    told = answer.provenance
    out.print(
        f"[dim]{told.model_version} base {short(told.base_digest)} adapter {short(told.adapter_digest) or '-'} "
        f"tokens {answer.usage.prompt_tokens}+{answer.usage.completion_tokens}[/]",
        highlight=False,
    )


def _event(line: str, place: str) -> dict[str, Any]:
    try:
        Feedback.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = "".join(f"{part}: " for part in first["loc"])
        raise InvalidInput(f"{place}: {field}{first['msg'].removeprefix('Value error, ')}", field="file") from error
    event: dict[str, Any] = json.loads(line)
    return event


def _pair(option: str) -> tuple[str, str]:
    name, separator, column = option.partition("=")
    if not separator or not name:
        raise InvalidInput(f"--column {option}: must look like field=column, or field= for none", field="--column")
    return name, column
