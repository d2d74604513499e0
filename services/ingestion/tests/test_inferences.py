"""The inference log lists each record once, wherever the boundaries of a batch fall."""

import io
import json
from datetime import UTC, datetime
from typing import Any

import pyarrow.parquet as pq
import pytest
from nats.aio.msg import Msg
from sqlalchemy import select

from libs.contracts.errors import Conflict
from libs.contracts.inference import Inference, Message, Provenance, Role, ToolCall
from libs.contracts.tooling import read_message
from libs.eventing.batches import RawMessage
from services.ingestion.compute.segments import inferences_to_parquet, merged
from services.ingestion.domain.signals import answered
from services.ingestion.store import inferences
from services.ingestion.store.segments import Size
from services.ingestion.store.tables import INFERENCE_SEGMENTS
from services.ingestion.tests.conftest import BASE, House

OWNER = ("default", "triage")


def inference(request_id: str, **fields: Any) -> Inference:
    given = {
        "generation": 3, "version": 2, "role": Role.STABLE, "unit": "u1", "assignment_probability": 0.5,
        "messages": (Message(role="user", content="my printer burns"),), "output": "fire", "finish_reason": "stop",
        "provenance": Provenance(base_digest=BASE), "created_at": datetime.now(UTC),
    }  # fmt: skip
    return Inference(request_id=request_id, **{**given, **fields})


async def deliver(house: House, *records: Inference) -> None:
    subject = "inference.default.triage"
    await house.inferences.take(
        [
            RawMessage(
                raw=Msg(house.link.client, subject), subject=subject, headers={}, data=each.model_dump_json().encode(),
                stream="INFERENCE", consumer="ingestion-inference", stream_seq=number, delivered=1, timestamp_ns=0,
            )
            for number, each in enumerate(records, 1)
        ]
    )  # fmt: skip


async def listed(house: House) -> list[tuple[str, str, str | None]]:
    """Request, role and error of every row of every listed segment."""
    table, found = INFERENCE_SEGMENTS, []
    async with house.database.reading() as session:
        segments = (await session.execute(select(table.c.digest, table.c.rows).order_by(table.c.written_at))).all()
    for digest, rows in segments:
        data = pq.read_table(io.BytesIO(await house.objects.for_tenant("default").get_bytes(digest))).to_pylist()
        assert len(data) == rows
        found += [(row["request_id"], row["role"], row["error"]) for row in data]
    return found


async def test_batches_delivered_again_with_other_boundaries_list_only_what_is_new(house: House) -> None:
    records = [inference(f"r{number}") for number in range(4)]
    await deliver(house, records[0], records[1])
    await deliver(house, records[1], records[2], records[2])
    await deliver(house, *records)
    await deliver(house, *records)
    assert await listed(house) == [(f"r{number}", "stable", None) for number in range(4)]


async def test_a_batch_that_another_replica_stored_meanwhile_is_read_anew(house: House) -> None:
    mine = [answered(inference("r1"))]
    await deliver(house, inference("r1"))
    with pytest.raises(Conflict):
        async with house.database.unit() as unit:
            await inferences.log(unit, OWNER, mine, BASE, Size(1, 1))
    assert await listed(house) == [("r1", "stable", None)]


async def test_another_role_of_a_request_is_another_row(house: House) -> None:
    await deliver(house, inference("r1"))
    await deliver(house, inference("r1", role=Role.CANARY))
    assert await listed(house) == [("r1", "stable", None), ("r1", "canary", None)]
    assert (await inferences.find(house.database, OWNER, ["r1"]))["r1"].role is Role.STABLE


async def test_a_request_that_failed_and_was_tried_again_is_joined_to_its_answer(house: House) -> None:
    failed, answer = inference("r1", output="", error="engine lost"), inference("r1")
    await deliver(house, failed, answer)
    await deliver(house, inference("r2", output="", error="engine lost"))
    await deliver(house, inference("r2", output="water"))
    await deliver(house, failed, answer)
    found = await inferences.find(house.database, OWNER, ["r1", "r2"])
    assert {name: each.output for name, each in found.items()} == {"r1": "fire", "r2": "water"}
    assert await listed(house) == [
        ("r1", "stable", "engine lost"),
        ("r1", "stable", None),
        ("r2", "stable", "engine lost"),
        ("r2", "stable", None),
    ]


def test_the_log_keeps_what_was_called_and_offered_and_a_log_from_before_is_merged_with_it() -> None:
    call = ToolCall(id="1", name="find", arguments='{"order": "7"}')
    asked = (
        Message(role="user", content="where is order 7?"),
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="at the harbour", tool_call_id="1"),
    )
    tools = '[{"type":"function","function":{"name":"find"}}]'
    log = [inference("r1", messages=asked, tools=tools, output="", tool_calls=(call,)), inference("r2")]
    data = inferences_to_parquet(log)
    first, second = pq.read_table(io.BytesIO(data)).to_pylist()
    assert [read_message(each) for each in json.loads(first["asked"])] == list(asked)
    assert [ToolCall(**each) for each in json.loads(first["tool_calls"])] == [call]
    assert first["tools"] == tools
    assert (second["asked"], second["tools"], second["tool_calls"]) == (None, None, None)
    table = pq.read_table(io.BytesIO(data))
    before = io.BytesIO()
    pq.write_table(table.drop_columns(["asked", "tools", "tool_calls"]), before)
    for parts in ([before.getvalue(), data], [data, before.getvalue()]):
        whole = pq.read_table(io.BytesIO(merged(parts))).to_pylist()
        assert [row["asked"] is None for row in whole].count(False) == 1
        assert len(whole) == 4


async def test_what_failed_and_what_another_role_answered_is_listed_once_in_whatever_batch_it_comes_again(
    house: House,
) -> None:
    failed = [inference("r1", output="", error="engine lost") for _ in range(2)]
    shadow, answer, other = inference("r1", role=Role.SHADOW), inference("r1"), inference("r2", error="lost")
    await deliver(house, failed[0], answer)
    await deliver(house, failed[0], failed[1], shadow)
    await deliver(house, shadow, failed[1], other, other)
    await deliver(house, other)
    await deliver(house, shadow, other, inference("r3"))
    assert sorted(await listed(house), key=str) == [
        ("r1", "shadow", None),
        ("r1", "stable", "engine lost"),
        ("r1", "stable", "engine lost"),
        ("r1", "stable", None),
        ("r2", "stable", "lost"),
        ("r3", "stable", None),
    ]


async def test_two_roles_that_answered_one_request_in_one_batch_are_two_rows(house: House) -> None:
    answer, shadow = inference("r1"), inference("r1", role=Role.SHADOW)
    for _ in range(2):
        await deliver(house, answer, shadow)
    assert await listed(house) == [("r1", "stable", None), ("r1", "shadow", None)]
