"""Where the local stack keeps things: everything under one directory, `.pawl` unless told otherwise."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one local stack."""

    root: Path

    @classmethod
    def at(cls, directory: Path | None = None) -> "Layout":
        """The layout of `directory`, of `PAWL_HOME`, or of `.pawl` in the current directory."""
        return cls((directory or Path(os.environ.get("PAWL_HOME", ".pawl"))).absolute())

    @property
    def state(self) -> Path:
        """Ports, keys and known engines: what makes the next start continue this one."""
        return self.root / "stack.json"

    @property
    def status(self) -> Path:
        """What the supervisor saw last."""
        return self.root / "status.json"

    @property
    def lock(self) -> Path:
        """Held by the living supervisor."""
        return self.root / "supervisor.lock"

    @property
    def keys(self) -> Path:
        """Hashed API keys that the registry publishes."""
        return self.root / "keys.json"

    @property
    def broker(self) -> Path:
        """The broker's configuration: who may publish and read what."""
        return self.root / "nats.conf"

    def log(self, name: str) -> Path:
        """The log of one process."""
        return self.root / "logs" / f"{name}.log"

    def data(self, name: str) -> Path:
        """The private directory of one process."""
        return self.root / "data" / name

    def prepare(self) -> None:
        """Make the directories; the root is readable by its owner only, for it holds keys."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.root / "logs").mkdir(exist_ok=True)
        (self.root / "data").mkdir(exist_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step, durable before visible."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
