"""The inference log while the broker is away."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from libs.contracts.inference import Inference, Message, Provenance, Role
from libs.contracts.subjects import INFERENCE
from libs.eventing.apply import apply
from libs.eventing.connection import NatsLink
from libs.testing.servers import NatsServer
from libs.testing.wait import eventually
from services.serving.gateway.store import Journal, Spill
from services.serving.gateway.store.spill import Parcel


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[NatsServer]:
    with NatsServer(tmp_path / "broker") as server:
        yield server


def record(number: int, role: Role = Role.STABLE) -> Inference:
    return Inference(
        request_id=f"r{number}",
        generation=1,
        version=1,
        role=role,
        unit="u",
        assignment_probability=1.0,
        messages=(Message(role="user", content="hi"),),
        provenance=Provenance(base_digest="b"),
        created_at=datetime.now(UTC),
    )


def parcels(*names: str) -> list[Parcel]:
    return [Parcel("inference.default.t", {"Nats-Msg-Id": name}, "{}") for name in names]


def test_what_was_written_is_read_after_a_restart(tmp_path: Path) -> None:
    Spill(tmp_path, 10_000).append(parcels("a", "b"))
    again = Spill(tmp_path, 10_000)
    (file,) = again.files()
    assert [each.headers["Nats-Msg-Id"] for each in again.read(file)] == ["a", "b"]
    again.done(file)
    assert Spill(tmp_path, 10_000).empty


def test_half_a_line_is_skipped(tmp_path: Path) -> None:
    spill = Spill(tmp_path, 10_000)
    spill.append(parcels("a"))
    (file,) = spill.files()
    with file.open("ab") as opened:
        opened.write(b'{"subject": "inf')
    assert [each.headers["Nats-Msg-Id"] for each in spill.read(file)] == ["a"]


def test_the_disk_is_not_filled_beyond_the_limit(tmp_path: Path) -> None:
    spill = Spill(tmp_path, 200)
    assert 0 < spill.append(parcels(*"abcdefgh")) < 8


def test_a_file_being_delivered_is_not_written_to(tmp_path: Path) -> None:
    spill = Spill(tmp_path, 10_000)
    spill.append(parcels("a"))
    (first,) = spill.files()
    spill.append(parcels("b"))
    assert [each.headers["Nats-Msg-Id"] for each in spill.read(first)] == ["a"]
    assert len(spill.files()) == 2


async def test_records_taken_while_the_broker_is_away_arrive_once_it_is_back(
    broker: NatsServer, tmp_path: Path
) -> None:
    link = NatsLink(broker.url, "gateway", on_closed=lambda: None)
    await link.connect(wait=True)
    await apply(link.js)
    journal = Journal(link, Spill(tmp_path / "spill", 1_000_000), capacity=100)
    broker.stop()
    await eventually(lambda: not link.connected)
    for number in range(20):
        journal.record("default", "t", record(number), None)
    await journal.flush()
    # The process that took them is gone; another one delivers them.
    successor = Journal(link, Spill(tmp_path / "spill", 1_000_000), capacity=100)
    broker.start()
    await eventually(lambda: link.connected)
    await successor._turn()
    info = await link.js.stream_info(INFERENCE)
    assert info.state.messages == 20
    await link.close()


async def test_a_spill_file_that_is_delivered_twice_counts_once(broker: NatsServer, tmp_path: Path) -> None:
    link = NatsLink(broker.url, "gateway", on_closed=lambda: None)
    await link.connect(wait=True)
    await apply(link.js)
    spill = Spill(tmp_path / "spill", 1_000_000)
    journal = Journal(link, spill, capacity=100)
    broker.stop()
    await eventually(lambda: not link.connected)
    for number in range(3):
        journal.record("default", "t", record(number), None)
    await journal.flush()
    (file,) = spill.files()
    kept = file.read_bytes()
    broker.start()
    await eventually(lambda: link.connected)
    await journal._turn()
    # As after a kill between the delivery and the removal of the file.
    file.write_bytes(kept)
    await Journal(link, Spill(tmp_path / "spill", 1_000_000), capacity=100)._turn()
    assert (await link.js.stream_info(INFERENCE)).state.messages == 3
    await link.close()


async def test_records_go_out_together_whatever_is_in_their_ids(broker: NatsServer, tmp_path: Path) -> None:
    link = NatsLink(broker.url, "gateway", on_closed=lambda: None)
    await link.connect(wait=True)
    await apply(link.js)
    journal = Journal(link, Spill(tmp_path / "spill", 1_000_000), capacity=100)
    for name in ("plain", "größe", "日本", "a: b"):
        journal.record("default", "t", record(1).model_copy(update={"request_id": name}), None)
    await journal._turn()
    stored = [await link.js.get_msg(INFERENCE, sequence) for sequence in range(1, 5)]
    assert [json.loads(each.data)["request_id"] for each in stored] == ["plain", "größe", "日本", "a: b"]
    assert {(each.headers or {}).get("Nats-Batch-Sequence") for each in stored} == {"1", "2", "3", "4"}
    await link.close()


async def test_a_request_id_used_again_by_another_role_task_tenant_or_attempt_is_another_record(
    broker: NatsServer, tmp_path: Path
) -> None:
    link = NatsLink(broker.url, "gateway", on_closed=lambda: None)
    await link.connect(wait=True)
    await apply(link.js)
    journal = Journal(link, Spill(tmp_path / "spill", 1_000_000), capacity=100)
    failed = record(1).model_copy(update={"error": "engine lost"})
    journal.record("default", "t", failed, None)
    journal.record("default", "t", record(1), None)
    journal.record("default", "t", record(1, Role.CANARY), None)
    journal.record("default", "other", record(1), None)
    journal.record("elsewhere", "t", record(1), None)
    await journal.flush()
    assert (await link.js.stream_info(INFERENCE)).state.messages == 5
    await link.close()


async def test_with_broker_and_disk_away_records_wait_in_memory_and_arrive_complete(
    broker: NatsServer, tmp_path: Path
) -> None:
    link = NatsLink(broker.url, "gateway", on_closed=lambda: None)
    await link.connect(wait=True)
    await apply(link.js)
    place = tmp_path / "spill"
    journal = Journal(link, Spill(place, 10_000), capacity=1000)
    place.rmdir()  # as a disk that takes nothing any more
    running = asyncio.create_task(journal.run())
    broker.stop()
    await eventually(lambda: not link.connected)
    for number in range(50):
        journal.record("default", "t", record(number), None)
    await asyncio.sleep(0)
    broker.start()

    async def arrived() -> bool:
        return int((await link.js.stream_info(INFERENCE)).state.messages) == 50

    await eventually(lambda: link.connected, 30)
    await eventually(arrived, 30)
    running.cancel()
    await link.close()
