"""An import as it is seen from the terminal: what has been sent, what has been read, and what was set aside."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from libs.contracts.errors import Transient
from libs.contracts.ids import new_id
from libs.contracts.stubs.pawl.ingestion.v1 import ingestion_pb2
from pawl.cli.common import out
from pawl.client import Pawl

QUIET_SECONDS = 1.0
"""An import that takes no longer shows nothing on its way."""
_LOOK_SECONDS = 0.5


def imported(pawl: Pawl, task: str, file: str, **options: Any) -> ingestion_pb2.Import:
    """Import a file, with live progress when it takes more than a second."""
    ticket, sent = new_id("ticket"), _Sent(file)
    with ThreadPoolExecutor(1, thread_name_prefix="import") as thread:
        work = thread.submit(pawl.import_file, task, file, ticket=ticket, sent=sent.add, **options)
        done = threading.Event()
        work.add_done_callback(lambda _: done.set())
        if not done.wait(QUIET_SECONDS):
            _show(pawl, ticket, sent, done)
        return work.result()


class _Sent:
    def __init__(self, file: str) -> None:
        path = Path(file)
        self.total = path.stat().st_size if path.is_file() else 0
        self.bytes = 0

    def add(self, size: int) -> None:
        self.bytes += size


def _show(pawl: Pawl, ticket: str, sent: _Sent, done: threading.Event) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True) as bars:
        bar = bars.add_task("sending", total=1.0, told="")
        while not done.wait(_LOOK_SECONDS):
            try:
                far = pawl.import_progress(ticket)
            except Transient:
                continue  # the import itself says what is wrong
            if far is None or far.state == "receiving":
                share = sent.bytes / sent.total if sent.total else 0.0
                bars.update(bar, description="sending", completed=share, told=f"{sent.bytes / 1e6:,.0f} MB")
            else:
                told = f"{far.rows:,} rows, {far.quarantined:,} set aside"
                bars.update(bar, description=far.state, completed=far.fraction, told=told)
