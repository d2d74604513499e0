"""`pawl plan`, `mask`, `teacher`, `replay`, `sweep` and `runs`: before, during and after training."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from libs.contracts.errors import InvalidInput, NotFound
from libs.contracts.task import TaskSpec
from pawl.cli.common import Dir, connect, out, short
from pawl.client import Pawl
from pawl.client.calls.registry import read_task

Task = Annotated[str, typer.Argument(help="name of an applied task")]
RunId = Annotated[str, typer.Argument(help="a run, as in `pawl runs TASK`")]
AsJson = Annotated[bool, typer.Option("--json", help="for scripts")]
File = Annotated[
    Path | None, typer.Option("--file", "-f", help="a task file to take the recipe from, in place of the applied one")
]
PARTS = ("weights", "adapter", "gradients", "optimizer", "activations", "slack", "saving", "overhead", "runtime")
GIB = 1 << 30
FOLLOW_SECONDS = 1.0
ENDED = ("succeeded", "failed", "cancelled")


class _Runs(TyperGroup):
    """`pawl runs TASK` is `pawl runs list TASK`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Anything that is no command is a task."""
        return super().resolve_command(ctx, args if args and args[0] in self.commands else ["list", *args])


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(plan)
    app.command()(mask)
    app.command()(teacher)
    app.command()(replay)
    app.command()(sweep)
    runs = typer.Typer(
        no_args_is_help=True, cls=_Runs, help="Training runs of a task; follow, show, reproduce or export one."
    )
    runs.command("list")(list_runs)
    runs.command()(follow)
    runs.command()(show)
    runs.command()(reproduce)
    runs.command()(export)
    app.add_typer(runs, name="runs")


def plan(
    task: Task,
    device: Annotated[str, typer.Option("--device", help="A10, L4, A100, H100...; default: the trainer's own")] = "",
    rows: Annotated[int, typer.Option("--rows", help="imagine so many rows in place of the newest dataset")] = 0,
    tokens: Annotated[int, typer.Option("--tokens", help="mean tokens of an imagined row")] = 0,
    longest: Annotated[int, typer.Option("--longest", help="tokens of the longest imagined row")] = 0,
    prices: Annotated[Path | None, typer.Option("--prices", help="price table, JSON")] = None,
    file: File = None,
    as_json: AsJson = False,
    directory: Dir = None,
) -> None:
    """What a run would need and cost, before it is made; status 1 when it does not fit."""
    table = _prices(prices)
    with connect(directory) as pawl, out.status("planning"):
        spec, base, dataset = _of(pawl, task, file, imagined=bool(rows))
        made = pawl.plan(
            spec, base, dataset, rows=rows, mean_tokens=tokens, longest_tokens=longest, device=device, prices=table
        )
    if as_json:
        sys.stdout.write(json.dumps(made, indent=2) + "\n")
    else:
        _print_plan(made)
    if not made["fits"]:
        raise typer.Exit(1)


def mask(
    task: Task,
    rows: Annotated[int, typer.Option("--rows", "-n", help="how many to show")] = 3,
    file: File = None,
    as_json: AsJson = False,
    directory: Dir = None,
) -> None:
    """Which tokens would train: the answer and the token that ends it, nothing else. Refused when the mask is wrong."""
    with connect(directory) as pawl, out.status("reading"):
        spec, base, dataset = _of(pawl, task, file, imagined=False)
        seen = pawl.mask(spec, base, dataset, rows)
    if as_json:
        sys.stdout.write(json.dumps(seen, indent=2) + "\n")
        return
    for row in seen["mask"]:
        parts = "".join(f"[black on green]{escape(t)}[/]" if on else f"[dim]{escape(t)}[/]" for t, on in row["parts"])
        ends = "stop token trained" if row["stop_trained"] else "[red]stop token not trained[/]"
        out.print(f"[bold]{escape(row['row_id'])}[/] ({ends})\n{parts}\n", highlight=False)
    out.print(
        f"{seen['rows']} rows, {seen['trained_share']:.1%} of their tokens trained; {seen['too_long']} too long, "
        f"{seen['skipped']} of no use to the method",
        highlight=False,
    )


def teacher(
    model: Annotated[Path, typer.Argument(help="directory of the model", exists=True, file_okay=False)],
    directory: Dir = None,
) -> None:
    """Upload a model to distil from; prints the digest that recipe.teacher takes."""
    with connect(directory) as pawl, out.status(f"uploading {model}"):
        digest = pawl.upload_teacher(model)
    sys.stdout.write(digest + "\n")


def replay(
    file: Annotated[Path, typer.Argument(help="JSON lines of messages, each ending with an answer")],
    directory: Dir = None,
) -> None:
    """Upload general rows to mix in against forgetting; prints the digest that recipe.replay.dataset takes."""
    with connect(directory) as pawl, out.status(f"uploading {file}"):
        digest = pawl.upload_replay(file)
    sys.stdout.write(digest + "\n")


def sweep(task: Task, file: File = None, directory: Dir = None) -> None:
    """Try the recipes that recipe.sweep declares and say which has the least loss on the validation split."""
    with connect(directory) as pawl, out.status("trying recipes"):
        spec, base, dataset = _of(pawl, task, file, imagined=False)
        for tried in pawl.sweep(spec, base, dataset):
            values = ", ".join(f"{name}: {value:g}" for name, value in json.loads(tried.values_json).items())
            loss = f"loss {tried.loss:.4f}" if tried.HasField("loss") else f"no loss: {tried.reason}"
            if tried.done:
                out.print(f"[bold]best[/]: trial {tried.trial}, {loss}; for the task file: {values}", highlight=False)
            else:
                early = f" (given up at step {tried.step})" if tried.pruned else ""
                out.print(
                    f"trial {tried.trial}/{tried.trials}: {values}: {loss}{early}, {tried.seconds:.0f} s",
                    highlight=False,
                )


def list_runs(task: Task, directory: Dir = None) -> None:
    """Training runs of a task."""
    table = Table("run", "status", "step", "loss", "tokens/s", "attempt", "reason", box=None, pad_edge=False)
    with connect(directory) as pawl:
        for run in pawl.runs(task):
            table.add_row(
                run.run_id, run.status, f"{run.step}/{run.total_steps}", f"{run.loss:.4f}",
                f"{run.tokens_per_second:.0f}", str(run.epoch), run.reason,
            )  # fmt: skip
    out.print(table)


def follow(run_id: RunId, directory: Dir = None) -> None:
    """A run's steps as they are reported, and its samples, until it ends; status 1 unless it succeeds."""
    step, sampled = -1, -1
    with connect(directory) as pawl:
        while True:
            run = pawl.run(run_id)
            details = json.loads(run.details_json or "{}")
            progress = details.get("progress") or {}
            if progress.get("step", -1) != step:
                step = progress["step"]
                out.print(_progress(progress), highlight=False)
            if details.get("samples_step", -1) != sampled:
                sampled = details["samples_step"]
                _print_samples(details)
            if run.status in ENDED:
                out.print(f"{run_id}: {run.status} {run.reason}".rstrip(), markup=False)
                raise typer.Exit(0 if run.status == "succeeded" else 1)
            time.sleep(FOLLOW_SECONDS)


def show(
    run_id: RunId,
    estimate: Annotated[
        bool, typer.Option("--estimate/--no-estimate", help="lay the plan beside what came of it; takes seconds")
    ] = True,
    as_json: AsJson = False,
    directory: Dir = None,
) -> None:
    """A run: its manifest, its samples, its plan beside what came of it."""
    with connect(directory) as pawl, out.status("asking"):
        told = pawl.describe_run(run_id, estimate=estimate)
    details, manifest = json.loads(told.run.details_json or "{}"), json.loads(told.manifest_json or "{}")
    rows = json.loads(told.comparison_json or "[]")
    if as_json:
        whole = {"manifest": manifest, "details": details, "comparison": rows}
        sys.stdout.write(json.dumps(whole, indent=2) + "\n")
        return
    out.print(f"{run_id}: {told.run.status}, step {told.run.step}/{told.run.total_steps}", highlight=False)
    for name in ("base_digest", "dataset_digest", "code_digest", "lock_digest", "plan_digest", "seed", "device"):
        if name in manifest:
            value = str(manifest[name])
            out.print(f"  {name:<16} {short(value) if value.startswith('sha256:') else value}", highlight=False)
    _print_samples(details)
    if rows:
        table = Table("what", "planned", "actual", "off", box=None, pad_edge=False)
        for row in rows:
            table.add_row(row["what"], f"{row['planned']:,.4g}", f"{row['actual']:,.4g}", f"{row['off']:+.1%}")
        out.print(table)


def reproduce(run_id: RunId, directory: Dir = None) -> None:
    """Train an ended run again and compare every byte; status 1 when they differ, with the reason."""
    with connect(directory) as pawl, out.status(f"making {run_id} again") as line:
        last = None
        for last in pawl.reproduce(run_id):
            line.update(f"making {run_id} again: step {last.step}/{last.total_steps}")
    same = last is not None and last.done and last.same
    out.print(f"{run_id}: {last.reason if last is not None else 'no answer'}", highlight=False)
    if not same:
        raise typer.Exit(1)


def export(
    run_id: RunId,
    destination: Annotated[Path, typer.Argument(help="directory to write to; new or empty")],
    form: Annotated[str, typer.Option(help="merged, or nf4: the same in four bits")] = "merged",
    directory: Dir = None,
) -> None:
    """Write base and adapter of a run as one model that loads without Pawl."""
    with connect(directory) as pawl, out.status("writing"):
        digest = pawl.export_run(run_id, destination, form=form)
    out.print(f"{destination}: {form} model {short(digest)}", highlight=False)


def _of(pawl: Pawl, name: str, file: Path | None, *, imagined: bool) -> tuple[TaskSpec, str, str]:
    """Specification, base and newest dataset version of an applied task."""
    task = next((each for each in pawl.tasks() if each.name == name), None)
    if task is None:
        raise NotFound(f"no task {name!r}: `pawl apply` its file first", field="task")
    spec = read_task(file) if file is not None else TaskSpec.model_validate_json(task.spec_json)
    return spec, task.base_digest, "" if imagined else pawl.dataset(name)[0].digest


def _prices(file: Path | None) -> dict[str, Any] | None:
    if file is None:
        return None
    try:
        held = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise InvalidInput(f"--prices {file}: {error}", field="--prices") from error
    if not isinstance(held, dict):
        raise InvalidInput(f"--prices {file}: a price table is a JSON object", field="--prices")
    return held


def _progress(at: dict[str, Any]) -> str:
    """One line of a step report."""
    held = "" if at["validation_loss"] is None else f", validation {at['validation_loss']:.4f}"
    return (
        f"step {at['step']}/{at['total_steps']}: loss {at['loss']:.4f}{held}, rate {at['learning_rate']:.2e}, "
        f"{at['tokens_per_second']:,.0f} tokens/s, MFU {at['mfu']:.1%}, {at['peak_memory_bytes'] / GIB:.2f} GiB, "
        f"{at['eta_seconds']:.0f} s to go"
    )


def _print_samples(details: dict[str, Any]) -> None:
    for sample in details.get("samples", []):
        out.print(f"  {sample['row_id']}: said {sample['said']!r}, wanted {sample['wanted']!r}", markup=False)


def _print_plan(made: dict[str, Any]) -> None:
    memory = made["memory"]
    trained = f"{made['trainable_parameters']:,} of {made['parameters']:,} parameters"
    out.print(f"{made['method']} on {made['device']}: {trained}, {made['rows']} rows", highlight=False)
    table = Table("memory", "GiB", box=None, pad_edge=False)
    for part in PARTS:
        table.add_row(part, f"{memory.get(part, 0) / GIB:.3f}")
    table.add_row("[bold]peak[/]", f"[bold]{memory['peak'] / GIB:.3f}[/] of {made['device_memory'] / GIB:.1f}")
    out.print(table)
    known = f"calibrated by {made['calibrated_by']} runs" if made["calibrated_by"] else "not calibrated here yet"
    out.print(
        f"{made['steps']} steps, {made['tokens']:,} tokens, {made['seconds'] / 3600:.3f} h at "
        f"{made['tokens_per_second']:,.0f} tokens/s ({known}), {made['kwh']:.3f} kWh",
        highlight=False,
    )
    if made["price"] is not None:
        managed = f", managed {made['managed_price']:.4f}" if made["managed_price"] is not None else ""
        back = f", pays back in {made['pay_back_requests']:,.0f} requests" if made["pay_back_requests"] else ""
        out.print(f"price {made['price']:.4f} {made['currency']}{managed}{back}", highlight=False)
    out.print("[green]fits[/]" if made["fits"] else "[red]does not fit[/]; what would help:")
    for suggestion in made["suggestions"]:
        out.print(f"  - {suggestion}", highlight=False)
