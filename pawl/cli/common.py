"""What the commands share: options, output, who is asking."""

import getpass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pawl.client import Connection, Pawl

out = Console(soft_wrap=True)

Dir = Annotated[Path | None, typer.Option("--dir", help="directory of the local stack (default .pawl, or PAWL_HOME)")]
By = Annotated[str, typer.Option("--by", help="your name, for the audit log", default_factory=getpass.getuser)]


def connect(directory: Path | None) -> Pawl:
    """A client of the stack in `directory`, or of the cluster named by PAWL_ENDPOINTS."""
    return Pawl(Connection.find(directory))


def short(digest: str) -> str:
    """The first digits of a digest."""
    return digest.removeprefix("sha256:")[:12]
