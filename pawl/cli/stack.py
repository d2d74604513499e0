"""`pawl up`, `down`, `status`, `logs`: the local stack."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import Annotated, Any

import psutil
import typer
from rich.table import Table

from libs.contracts.errors import InvalidInput, NotFound, Unavailable
from pawl.cli.common import Dir, out
from pawl.local import specs
from pawl.local.layout import Layout
from pawl.local.state import StackState
from pawl.local.supervisor import Supervisor, end_leftovers, living_supervisor, serve

GIB = 1 << 30
UP_SECONDS = 180.0
DOWN_SECONDS = 90.0
NAMES = ("nats", "s3", *specs.SERVICES, "engine")

Only = Annotated[
    list[str] | None, typer.Option("--only", help=f"start just these: {', '.join(NAMES)}; may be repeated")
]
HttpPort = Annotated[int | None, typer.Option("--http-port", help="port of the OpenAI API (default: a free one)")]
GrpcPort = Annotated[int | None, typer.Option("--grpc-port", help="port of the inference gRPC API")]
NatsPort = Annotated[int | None, typer.Option("--nats-port", help="port of the broker")]
ConsolePort = Annotated[int | None, typer.Option("--console-port", help="port of the web console")]
Memory = Annotated[
    float | None, typer.Option("--memory-gib", help="memory for engines (default: 60 % of the machine's)")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(up)
    app.command()(down)
    app.command()(status)
    app.command()(logs)


def up(
    detach: Annotated[
        bool, typer.Option("--detach", help="return when everything is healthy; stop with `pawl down`")
    ] = False,
    only: Only = None,
    http_port: HttpPort = None,
    grpc_port: GrpcPort = None,
    nats_port: NatsPort = None,
    console_port: ConsolePort = None,
    memory_gib: Memory = None,
    directory: Dir = None,
) -> None:
    """Start the local stack: broker, object store and every process; continues from its state."""
    for name in only or []:
        if name not in NAMES and not name.startswith("engine-"):
            raise InvalidInput(f"--only {name}: there is no such process; there are {', '.join(NAMES)}", field="--only")
    layout = Layout.at(directory)
    memory = int(memory_gib * GIB) if memory_gib else int(psutil.virtual_memory().total * 0.6)
    ports = {"gateway-http": http_port, "gateway-grpc": grpc_port, "nats": nats_port, "console-http": console_port}
    options = {
        "gateway-http": "--http-port",
        "gateway-grpc": "--grpc-port",
        "nats": "--nats-port",
        "console-http": "--console-port",
    }
    claims = {name: (port, options[name]) for name, port in ports.items() if port is not None}
    if detach:
        _detach(layout)
        return
    supervisor = Supervisor(
        layout, only=only or (), memory_bytes=memory, say=lambda line: out.print(line, highlight=False, markup=False)
    )
    supervisor.lock()
    (layout.root / "failure.txt").unlink(missing_ok=True)
    out.print(f"pawl: starting in {layout.root} (Ctrl-C stops it)", highlight=False)

    async def run() -> None:
        announce = asyncio.create_task(_announce(layout, supervisor))
        try:
            await serve(supervisor, claims)
        finally:
            announce.cancel()

    asyncio.run(run())
    out.print("pawl: stopped; the next `pawl up` continues from here")


async def _announce(layout: Layout, supervisor: Supervisor) -> None:
    while not _all_healthy(layout):  # noqa: ASYNC110 - another process writes the status
        await asyncio.sleep(0.3)
    for name, address in specs.endpoints(supervisor.state).items():
        out.print(f"  {name:<10} {address}", highlight=False)
    if out.is_terminal:  # detached, this is a log, and a log holds no secret
        out.print(f"  {'api key':<10} {supervisor.state.secret('api_key')}", highlight=False)


def _detach(layout: Layout) -> None:
    layout.prepare()
    failure = layout.root / "failure.txt"
    failure.unlink(missing_ok=True)
    arguments = [argument for argument in sys.argv[1:] if argument != "--detach"]
    with layout.log("supervisor").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "pawl.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + UP_SECONDS
    with out.status("starting") as line:
        while not _all_healthy(layout, supervisor=child.pid):
            if child.poll() is not None:
                said = (failure if failure.exists() else layout.log("supervisor")).read_text().strip().splitlines()
                raise Unavailable(said[-1].removeprefix("error: ") if said else f"ended with status {child.poll()}")
            waiting = [record["name"] for record in _records(layout) if not record["healthy"]]
            if time.monotonic() > deadline:
                child.terminate()
                raise Unavailable(f"not healthy after {UP_SECONDS:.0f} s: {', '.join(waiting)}; see {layout.root}/logs")
            line.update(f"starting: {', '.join(waiting) or 'broker and object store'}")
            time.sleep(0.2)
    status(as_json=False, directory=layout.root)


def down(directory: Dir = None) -> None:
    """Stop the local stack."""
    layout = Layout.at(directory)
    pid = living_supervisor(layout)
    if pid is None:
        left = end_leftovers(layout) if layout.status.exists() else 0
        out.print(f"no stack is up in {layout.root}" + (f"; ended {left} processes left over" if left else ""))
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_SECONDS
    with out.status("stopping"):
        while _alive(pid):
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"pid {pid} has not stopped within {DOWN_SECONDS:.0f} s; see {layout.log('supervisor')}"
                )
            time.sleep(0.1)
    out.print("stopped")


def status(
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
    directory: Dir = None,
) -> None:
    """Every process's health, and where everything is. Status 1 unless all is healthy."""
    layout = Layout.at(directory)
    if not layout.state.exists():
        raise NotFound(f"no stack in {layout.root}: start one with `pawl up`")
    state = StackState.load(layout)
    records = _records(layout)
    endpoints = specs.endpoints(state) if "console-http" in state.ports else {}
    if as_json:
        keys = ("name", "pid", "healthy", "log", "why", "restarts")
        processes = [{key: record[key] for key in keys} for record in records]
        document = {"endpoints": endpoints, "api_key": state.secrets.get("api_key", ""), "processes": processes}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        table = Table("process", "pid", "health", "restarts", box=None, pad_edge=False)
        for record in records:
            health = "[green]healthy[/]" if record["healthy"] else f"[red]{record['why'] or 'down'}[/]"
            table.add_row(record["name"], str(record["pid"] or "-"), health, str(record["restarts"]))
        out.print(table if records else f"the stack in {layout.root} is down; `pawl up` continues it")
        if records:
            for name, address in endpoints.items():
                out.print(f"  {name:<10} {address}", highlight=False)
    if not records or not all(record["healthy"] for record in records):
        raise typer.Exit(1)


def logs(
    name: Annotated[str, typer.Argument(help="process, as in `pawl status`")],
    follow: Annotated[bool, typer.Option("-f", "--follow")] = False,
    lines: Annotated[int, typer.Option("-n", help="how many of the last lines")] = 50,
    directory: Dir = None,
) -> None:
    """Print the log of one process."""
    layout = Layout.at(directory)
    path = layout.log(name)
    if not path.exists():
        known = sorted(each.stem for each in path.parent.glob("*.log"))
        raise NotFound(f"no log of {name!r}; there are {', '.join(known) or 'none'}", field="name")
    command = ["tail", "-n", str(lines), *(["-f"] if follow else []), str(path)]
    with contextlib.suppress(KeyboardInterrupt):
        subprocess.run(command, check=False)


def _records(layout: Layout) -> list[dict[str, Any]]:
    try:
        document = json.loads(layout.status.read_text())
    except (OSError, ValueError):
        return []
    records: list[dict[str, Any]] = document["processes"]
    for record in records:
        if record["pid"] and not _alive(record["pid"]):
            record |= {"healthy": False, "why": "not running"}
    return records


def _all_healthy(layout: Layout, supervisor: int | None = None) -> bool:
    records = _records(layout)
    own = next((record["pid"] for record in records if record["name"] == "supervisor"), None)
    return bool(records) and supervisor in (None, own) and all(bool(record["healthy"]) for record in records)


def _alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
