import json
import os
import socket
from pathlib import Path

import pytest

from libs.contracts.errors import FailedPrecondition, InvalidInput, ResourceExhausted
from pawl.local import specs
from pawl.local.layout import Layout
from pawl.local.state import StackState, write_broker, write_keys
from pawl.local.supervisor import Supervisor, living_supervisor


def layout(tmp_path: Path) -> Layout:
    made = Layout.at(tmp_path / "stack")
    made.prepare()
    return made


def test_the_next_start_has_the_same_ports_and_keys(tmp_path: Path) -> None:
    place = layout(tmp_path)
    first = StackState.load(place)
    specs.reserve_ports(first)
    key = first.secret("api_key")
    first.save(place)
    second = StackState.load(place)
    specs.reserve_ports(second)
    assert (second.ports, second.secret("api_key")) == (first.ports, key)
    assert place.state.stat().st_mode & 0o077 == 0, "it holds keys"


def test_a_remembered_port_that_somebody_took_is_replaced(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        state = StackState(ports={"nats": taken})
        assert state.port("nats") != taken
        assert state.port("nats", taken_by_us=frozenset({taken})) != taken or taken in state.ports.values()


def test_a_port_that_was_asked_for_and_is_taken_is_an_error_naming_the_option(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(FailedPrecondition, match=f"--http-port {taken}: the port is taken"):
            StackState().claim("gateway-http", taken, "--http-port")
    with pytest.raises(InvalidInput, match="--http-port 99999"):
        StackState().claim("gateway-http", 99999, "--http-port")


def test_a_damaged_state_file_says_so(tmp_path: Path) -> None:
    place = layout(tmp_path)
    place.state.write_text("{")
    with pytest.raises(InvalidInput, match=r"stack\.json is damaged"):
        StackState.load(place)


def test_keys_are_published_hashed_only(tmp_path: Path) -> None:
    place, state = layout(tmp_path), StackState()
    written = write_keys(place, state).read_text()
    assert state.secret("api_key") not in written
    assert {key["name"]: key["roles"] for key in json.loads(written)} == {
        "api": ["client", "operator"],
        "evaluator": ["client", "evaluator"],
    }


def test_every_process_has_ports_of_its_own(tmp_path: Path) -> None:
    place, state = layout(tmp_path), StackState()
    specs.reserve_ports(state)
    processes = [specs.service(place, state, name) for name in specs.SERVICES]
    processes += [specs.engine(place, state, "sha256:" + digit * 64) for digit in "ab"]
    assert len({process.health for process in processes}) == len(processes)
    assert len(set(state.ports.values())) == len(state.ports)


def test_a_full_disk_is_named_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pawl.local.supervisor.LEAST_FREE_BYTES", 1 << 62)
    place = layout(tmp_path)
    with pytest.raises(ResourceExhausted, match="is full"):
        Supervisor(place, memory_bytes=0, say=print).lock()
    Supervisor(place, only=["gateway"], memory_bytes=0, say=print).lock()


def test_a_supervisor_lives_while_its_lock_is_held_whatever_process_has_its_old_id(tmp_path: Path) -> None:
    place = layout(tmp_path)
    place.lock.write_text(str(os.getpid()))
    assert living_supervisor(place) is None
    holder = Supervisor(place, memory_bytes=0, say=print)
    holder.lock()
    assert living_supervisor(place) == os.getpid()
    with pytest.raises(FailedPrecondition, match=f"already up .*{os.getpid()}"):
        Supervisor(place, memory_bytes=0, say=print).lock()


def test_the_broker_knows_every_process_by_a_password_of_its_own(tmp_path: Path) -> None:
    place, state = layout(tmp_path), StackState()
    specs.reserve_ports(state)
    written = write_broker(place, state)
    passwords = [specs.service(place, state, name).env["PAWL_NATS_PASSWORD"] for name in specs.SERVICES]
    passwords.append(specs.engine(place, state, "sha256:" + "a" * 64).env["PAWL_NATS_PASSWORD"])
    assert len(set(passwords)) == len(passwords)
    assert all(password in written.read_text() for password in passwords)
    assert written.stat().st_mode & 0o077 == 0, "it holds passwords"
