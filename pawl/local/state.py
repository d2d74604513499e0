"""What a local stack remembers between starts: its ports, its keys and the bases it has engines for."""

import hashlib
import json
import secrets
import socket
from dataclasses import asdict, dataclass, field
from pathlib import Path

from libs.contracts.errors import FailedPrecondition, InvalidInput
from libs.eventing.permissions import authorization
from libs.eventing.topology import SERVICES, Service
from pawl.local.layout import Layout, write_atomically


@dataclass(slots=True)
class StackState:
    """Remembered between starts; secrets in it are why the file is readable by its owner only."""

    ports: dict[str, int] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    bases: dict[str, str] = field(default_factory=dict)
    """Base digest -> process name of its engine."""

    @classmethod
    def load(cls, layout: Layout) -> "StackState":
        """The remembered state, or a new one."""
        if not layout.state.exists():
            return cls()
        try:
            document = json.loads(layout.state.read_text())
            return cls(document["ports"], document["secrets"], document["bases"])
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(
                f"{layout.state} is damaged ({error}); remove it to begin anew", field="stack.json"
            ) from error

    def save(self, layout: Layout) -> None:
        """Write it down, atomically."""
        write_atomically(layout.state, json.dumps(asdict(self), indent=2) + "\n")

    def port(self, name: str, *, taken_by_us: frozenset[int] = frozenset()) -> int:
        """The port called `name`: the remembered one while it is free (or ours), else a new free one."""
        known = self.ports.get(name)
        if known is not None and (known in taken_by_us or is_free(known)):
            return known
        self.ports[name] = free_port(exclude=set(self.ports.values()))
        return self.ports[name]

    def claim(self, name: str, port: int, option: str, *, taken_by_us: frozenset[int] = frozenset()) -> None:
        """Insist on a port that the user named; FailedPrecondition naming the option when it is taken."""
        if not 1 <= port <= 65535:
            raise InvalidInput(f"{option} {port}: a port is a number from 1 to 65535", field=option)
        if port not in taken_by_us and not is_free(port):
            raise FailedPrecondition(f"{option} {port}: the port is taken by another program", field=option)
        self.ports[name] = port

    def secret(self, name: str, prefix: str = "") -> str:
        """The secret called `name`, made on first use."""
        return self.secrets.setdefault(name, prefix + secrets.token_urlsafe(24))


def write_keys(layout: Layout, state: StackState) -> Path:
    """Write the hashed API keys that the registry publishes to the gateways."""
    roles = {"api_key": ["client", "operator"], "evaluator_key": ["client", "evaluator"]}
    keys = [
        {
            "name": name.removesuffix("_key"),
            "key_hash": hashlib.sha256(state.secret(name, "pawl-").encode()).hexdigest(),
            "tenant": "default",
            "roles": granted,
        }
        for name, granted in roles.items()
    ]
    write_atomically(layout.keys, json.dumps(keys, indent=2) + "\n")
    return layout.keys


def write_broker(layout: Layout, state: StackState) -> Path:
    """Write the broker's configuration: each process a user of its own, with what the topology grants it."""
    users: dict[Service, dict[str, str]] = {
        name: {"user": name, "password": state.secret(f"nats_{name}")} for name in SERVICES
    }
    job = {"user": "topology", "password": state.secret("nats_topology")}
    write_atomically(layout.broker, authorization(users, job))
    return layout.broker


def is_free(port: int) -> bool:
    """Whether the port can be bound on the loopback address now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port(exclude: set[int]) -> int:
    """A port that is free now and not in `exclude`."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in exclude:
            return port
