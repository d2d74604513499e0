"""Heavy work in a process of its own, so that its memory and its time are not the service's."""

import json
import sys
from pathlib import Path
from typing import Any

from libs.contracts.errors import FailedPrecondition, Unavailable
from libs.runtime.children import spawn_child

# Named, not imported: what they need is loaded by their own process alone.
BUILD = "services.curation.compute.build"
AUDIT = "services.curation.compute.audit"
ERASE = "services.curation.compute.erasure"
CHECK = "services.curation.compute.candidates"
CATEGORIES = "services.curation.compute.categories"
COMPARE = "services.curation.compute.compare"


async def run_compute(module: str, directory: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Run `python -m module REQUEST` and return its result; the child dies with this task and this process.

    Raises Unavailable when it was killed, FailedPrecondition when it broke or says that it cannot be done.
    """
    request_file, result_file = _prepared(directory, request)
    child = await spawn_child([sys.executable, "-m", module, str(request_file)])
    try:
        status = await child.wait()
    finally:
        # A build whose command was handed over must not go on beside its successor.
        await child.stop(0.1)
        child.close()
    if status < 0:
        raise Unavailable(f"the {_name(module)} was killed by signal {-status}", reason=f"{_word(module)}_KILLED")
    result = _read(result_file) if status == 0 else None
    if result is None:
        raise FailedPrecondition(
            f"the {_name(module)} broke with status {status}; its log says why", reason=f"{_word(module)}_BROKE"
        )
    if "error" in result:
        raise FailedPrecondition(result["error"], reason=result["reason"])
    return result


def _prepared(directory: Path, request: dict[str, Any]) -> tuple[Path, Path]:
    directory.mkdir(parents=True, exist_ok=True)
    request_file, result_file = directory / "request.json", directory / "result.json"
    result_file.unlink(missing_ok=True)
    # It names the secret of the tenant's pseudonyms.
    request_file.touch(0o600)
    request_file.write_text(json.dumps({**request, "result": str(result_file)}))
    return request_file, result_file


def _read(path: Path) -> dict[str, Any] | None:
    return dict(json.loads(path.read_text())) if path.exists() else None


def _name(module: str) -> str:
    return module.rpartition(".")[2]


def _word(module: str) -> str:
    return _name(module).upper()
