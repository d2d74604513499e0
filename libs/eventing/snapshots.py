"""A bucket's content on local disk: written whole or not at all, believed only when its digest is right."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from libs.contracts.errors import DataLoss


def write_snapshot(path: Path, bucket: str, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Replace the snapshot at `path` (temporary file, fsync, rename); OSError when the disk refuses."""
    body = json.dumps({"bucket": bucket, "entries": entries}, sort_keys=True, separators=(",", ":"))
    data = json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest(), "body": body}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_snapshot(path: Path, bucket: str) -> dict[str, dict[str, Any]] | None:
    """Entries of the snapshot at `path`; None when there is none, DataLoss when it cannot be believed."""
    try:
        outer = json.loads(path.read_bytes())
        body = outer["body"]
        right = hashlib.sha256(body.encode()).hexdigest() == outer["sha256"]
        inner = json.loads(body)
        entries: dict[str, dict[str, Any]] = inner["entries"]
        of = inner["bucket"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataLoss(f"{path} is not a snapshot: {error}") from error
    if not right:
        raise DataLoss(f"{path} does not match its digest")
    if of != bucket:
        raise DataLoss(f"{path} is of bucket {of!r}, not {bucket!r}")
    return entries
