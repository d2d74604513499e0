"""Digests of the code that trains and of the lock it was installed from."""

import hashlib
import importlib.metadata
from pathlib import Path

_SERVICE = Path(__file__).resolve().parents[1]
_TRAINS = ("compute", "domain")


def code_digest() -> str:
    """Digest over the source that decides what an adapter looks like."""
    digest = hashlib.sha256()
    for part in _TRAINS:
        for file in sorted((_SERVICE / part).rglob("*.py")):
            digest.update(f"{file.relative_to(_SERVICE)}\n".encode() + file.read_bytes())
    return f"sha256:{digest.hexdigest()}"


def lock_digest(lock_file: Path | None) -> str:
    """Digest of the lock file; without one, of the names and versions of everything installed."""
    if lock_file is not None:
        return f"sha256:{hashlib.sha256(lock_file.read_bytes()).hexdigest()}"
    installed = sorted({f"{found.name.lower()}=={found.version}" for found in importlib.metadata.distributions()})
    return f"sha256:{hashlib.sha256(chr(10).join(installed).encode()).hexdigest()}"
