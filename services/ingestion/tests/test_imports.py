"""A file is imported as a whole or not at all; what is wrong in it is named by row and field."""

import asyncio
import base64
import errno
import gzip
import io
import json
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from libs.contracts.errors import InvalidInput, NotFound, ResourceExhausted
from libs.contracts.events import ImportCompleted, SegmentWritten
from libs.contracts.ids import record_of
from libs.contracts.stubs.pawl.ingestion.v1 import ingestion_pb2 as pb
from libs.testing.wait import eventually
from services.ingestion.rpc import IngestionServicer, quarantine
from services.ingestion.store import imports, signals
from services.ingestion.tests.conftest import House
from services.ingestion.workflows.spool import Spool

SUPPORT = Path(__file__).parents[4] / "shared" / "data" / "customer_support.csv"


def jsonl(*rows: Any) -> bytes:
    return b"\n".join(each if isinstance(each, bytes) else json.dumps(each).encode() for each in rows) + b"\n"


async def test_rows_of_a_jsonl_file_become_segments_and_facts(house: House) -> None:
    rows = [{"input": f"q{at}", "output": f"a{at}"} for at in range(250)]
    record = await house.import_bytes(jsonl(*rows))
    assert (record.rows, record.accepted, record.quarantined, record.watermark) == (250, 250, 0, 3)
    kept = await house.rows("triage")
    assert [row["output"] for row in kept] == [f"a{at}" for at in range(250)]
    assert {(row["kind"], row["signal"], row["source"]) for row in kept} == {("example", "good", "crm")}
    facts = await eventually(lambda: house.stored("EVT"))
    await eventually(lambda: _all_facts(house, 4))
    facts = await house.stored("EVT")
    assert [subject for subject, _ in facts] == [SegmentWritten.subject] * 3 + [ImportCompleted.subject]
    assert facts[-1][1]["watermark"] == 3


async def _all_facts(house: House, expected: int) -> bool:
    return len(await house.stored("EVT")) == expected


async def test_importing_the_same_file_again_takes_nothing_twice(house: House) -> None:
    data = jsonl(*({"input": f"q{at}", "output": "a"} for at in range(10)))
    first = await house.import_bytes(data)
    again = await house.import_bytes(data)
    assert (again.accepted, again.already_seen, again.import_id) == (0, 10, first.import_id)
    longer = await house.import_bytes(data + jsonl({"input": "new", "output": "a"}))
    assert (longer.accepted, longer.already_seen) == (1, 10)
    assert len(await house.rows("triage")) == 11


async def test_columns_that_no_field_is_mapped_to_are_named(house: House) -> None:
    data = b"question,answer,agent,priority,label\nq,a,Ann,high,true\n"
    columns = {"input": "question", "output": "answer", "user": "agent"}
    done = await house.import_bytes(data, name="a.csv", columns=columns)
    assert (done.accepted, done.unread) == (1, ("priority",))
    assert (await imports.get(house.database, done.import_id)).unread == ("priority",)
    shaped = await house.import_bytes(data, name="b.csv", columns=columns, shape="columns")
    assert shaped.unread == ("label", "priority")
    whole = await house.import_bytes(jsonl({"prompt": "q", "completion": "a", "language": "en"}), name="c.jsonl")
    assert (whole.shape, whole.unread) == ("trl-prompt-completion", ())


async def test_an_import_with_the_terms_that_one_before_left_out_is_taken_as_another_version(house: House) -> None:
    data = jsonl(*({"input": f"q{at}", "output": "a", "may": at > 0, "terms": "CC0"} for at in range(3)))
    await house.import_bytes(data)
    for columns in ({"consent": "may"}, {"consent": "may", "licence": "terms"}):
        assert (await house.import_bytes(data, columns=columns)).accepted == 3
        longer = await house.import_bytes(data + b"\n", columns=columns)
        assert (longer.accepted, longer.already_seen) == (0, 3)
    rows = await house.rows("triage")
    assert [row["consent"] for row in rows] == [*[None] * 3, *[False, True, True] * 2]
    assert [row["licence"] for row in rows] == [*[None] * 6, *["CC0"] * 3]
    records = [record_of(row["row_id"]) for row in rows]
    assert records == records[:3] * 3
    assert [row["row_id"] for row in rows[:3]] == records[:3]


async def test_a_bad_row_costs_itself_alone_and_is_named(house: House) -> None:
    await house.apply("triage", max_import_errors=0.9)
    await eventually(lambda: house.tasks.check() is None)
    data = jsonl(
        {"input": "q", "output": "a"},
        b"{broken",
        b"[1, 2]",
        {"input": None, "output": "a"},
        {"input": 12, "output": "a"},
        {"input": "q", "output": "   "},
        b'{"input": "caf\xe9", "output": "a"}',
        {"output": "a"},
        {"input": "q", "output": "a" * 70_000},
        b"",
        {"input": "last", "output": "a"},
    )
    record = await house.import_bytes(data)
    assert (record.rows, record.accepted, record.quarantined) == (10, 2, 8)
    bad = await imports.quarantine_of(house.database, record.import_id, 100)
    assert [(each.row, each.field) for each in bad] == [
        (2, ""), (3, ""), (4, "input"), (5, "input"), (6, "output"), (7, ""), (8, "input"), (9, "output"),
    ]  # fmt: skip
    assert "must be text, not a number" in bad[3].reason


async def test_more_bad_rows_than_the_task_allows_stop_the_import_and_leave_nothing(house: House) -> None:
    data = jsonl(*({"input": f"q{at}", "output": "a"} for at in range(300)), *([b"{broken"] * 200))
    with pytest.raises(InvalidInput, match=r"200 of 500 rows are bad, more than the 20%.*row 301: not JSON") as raised:
        await house.import_bytes(data)
    assert await house.rows("triage") == []
    assert await house.stored("EVT") == []
    failed = await imports.get(house.database, raised.value.metadata["import_id"])
    assert (failed.state, failed.accepted) == ("failed", 0)
    mended = await house.import_bytes(jsonl(*({"input": f"q{at}", "output": "a"} for at in range(300))))
    assert mended.accepted == 300


async def test_a_few_bad_rows_stop_no_small_file_unless_all_of_them_are(house: House) -> None:
    good = [{"input": f"q{at}", "output": "a"} for at in range(3)]
    record = await house.import_bytes(jsonl(*good, {"input": ""}))
    assert (record.accepted, record.quarantined) == (3, 1)
    with pytest.raises(InvalidInput, match="6 of 9 rows are bad"):
        await house.import_bytes(jsonl(*good, *[{"input": ""}] * 6))
    with pytest.raises(InvalidInput, match="2 of 2 rows are bad"):
        await house.import_bytes(jsonl(*[{"input": "", "output": "a"}] * 2))
    await house.apply("strict", few_import_errors=0)
    with pytest.raises(InvalidInput, match="1 of 4 rows are bad"):
        await house.import_bytes(jsonl(*good, {"input": ""}), task="strict")


async def test_a_csv_with_quotes_newlines_and_a_byte_order_mark_is_read(house: House) -> None:
    text = '\ufeffid,question,answer\r\n1,"hello, ""you""",first\r\n2,"two\nlines",second\r\n'
    columns = {"input": "question", "output": "answer", "id": "id"}
    await house.import_bytes(text.encode(), name="a.csv", columns=columns)
    assert [row["input"] for row in await house.rows("triage")] == ['hello, "you"', "two\nlines"]


async def test_an_unclosed_quote_costs_its_line_and_not_the_rest_of_the_file(house: House) -> None:
    good = "".join(f"q{at},a\n" for at in range(20))
    data = f'input,output\n{good}"open,a\nshort\n{good.replace("q", "r")}'.encode()
    record = await house.import_bytes(data, name="a.csv")
    assert (record.accepted, record.quarantined) == (40, 1)
    bad = await imports.quarantine_of(house.database, record.import_id, 10)
    assert [(each.row, each.reason) for each in bad] == [
        (22, "a quote is opened and never closed"),
    ]


async def test_without_an_output_column_the_category_is_the_answer(house: House) -> None:
    await house.import_bytes(
        b"text,label\nwhere is it,DELIVERY\n", name="a.csv", columns={"input": "text", "category": "label"}
    )
    (row,) = await house.rows("triage")
    assert (row["output"], row["category"]) == ("DELIVERY", "DELIVERY")


async def test_chat_messages_are_taken_with_their_history(house: House) -> None:
    turns = ["user", "assistant", "user", "assistant"]
    messages = [{"role": role, "content": f"{role} {at}"} for at, role in enumerate(turns)]
    await house.import_bytes(jsonl({"messages": [{"role": "system", "content": "be kind"}, *messages]}))
    (row,) = await house.rows("triage")
    assert (row["system"], row["input"], row["output"]) == ("be kind", "user 2", "assistant 3")
    assert json.loads(row["history"]) == messages[:2]


async def test_a_compressed_file_is_read_and_a_damaged_one_named(house: House) -> None:
    packed = gzip.compress(jsonl({"input": "q", "output": "a"}))
    assert (await house.import_bytes(packed, name="a.jsonl.gz")).accepted == 1
    with pytest.raises(InvalidInput, match="damaged"):
        await house.import_bytes(packed[:-10], name="b.jsonl.gz")


@pytest.mark.parametrize(
    ("data", "given", "message"),
    [
        (b"", {}, "a.jsonl is empty"),
        (b'[{"input": "q", "output": "a"}, {"input": "q', {}, "element 2 is never closed"),
        (b'{\n  "input": "q"\n}', {}, "one JSON object over several lines"),
        ("input,output\n".encode("utf-16"), {"name": "a.csv"}, "UTF-16"),
        (b"\x7fELF\x00\x00", {}, "binary"),
        (b"text,output\nq,a\n", {"name": "a.csv"}, "no column 'input' for 'input'"),
        (b"input,anwser\nq,a\n", {"name": "a.csv", "columns": {"output": "answer"}}, "did you mean 'anwser'"),
        (b"input,output\nq,a\n", {"name": "a.csv", "columns": {"inptu": "input"}}, "did you mean 'input'"),
        (b"input,text\nq,a\n", {"name": "a.csv"}, "no column gives the answer"),
        (b"input,input\nq,a\n", {"name": "a.csv"}, "names the column 'input' twice"),
        (b"q\n", {"format": "xlsx"}, "format 'xlsx' is not one of jsonl, json, csv, parquet"),
        (b'{"input": "q", "output": "a"}', {"shape": "alpacca"}, "did you mean 'alpaca'"),
        (b'{"input": "q", "output": "a"}', {"shape": "sharegpt"}, "no column 'conversations', which sharegpt needs"),
        (b"input,output\n", {"name": "a.csv"}, "the file has no rows"),
    ],
)
async def test_an_unreadable_file_is_refused_with_the_reason(
    house: House, data: bytes, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        await house.import_bytes(data, **given)
    assert await house.rows("triage") == []


async def test_a_field_that_the_task_maps_and_the_file_has_not_can_be_left_out(house: House) -> None:
    await house.apply("mapped", columns={"input": "input", "output": "output", "category": "kind", "id": "ticket"})
    data = b"input,output\nq,a\n"
    with pytest.raises(InvalidInput, match=r"no column 'kind' for 'category'.*; without what .* not: category= id=$"):
        await house.import_bytes(data, task="mapped", name="a.csv")
    done = await house.import_bytes(data, task="mapped", name="a.csv", columns={"category": "", "id": ""})
    assert (done.accepted, done.unread) == (1, ())


async def test_an_unknown_task_is_named_with_the_known_ones(house: House) -> None:
    await house.apply("billing")
    await eventually(lambda: len(house.tasks._state.values) == 2)
    with pytest.raises(NotFound, match=r"no task 'traige'; known tasks: billing, triage"):
        await house.import_bytes(b"{}", task="traige")


async def test_a_task_applied_a_moment_ago_is_known(house: House) -> None:
    await house.apply("brand-new")
    assert (await house.import_bytes(jsonl({"input": "q", "output": "a"}), task="brand-new")).accepted == 1


async def test_an_import_killed_half_way_shows_nothing_and_can_be_done_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = jsonl(*({"input": f"q{at}", "output": "a"} for at in range(250)))
    whole, calls = imports.stage, 0

    async def dies(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise asyncio.CancelledError
        await whole(*arguments)

    monkeypatch.setattr(imports, "stage", dies)
    with pytest.raises(asyncio.CancelledError):
        await house.import_bytes(data)
    assert (await signals.intake(house.database, "default", "triage")).kinds == {}
    await house.stop()
    await house.start()
    assert (await house.import_bytes(data)).accepted == 250
    assert len(await house.rows("triage")) == 250


@pytest.mark.skipif(not SUPPORT.exists(), reason="the shared data is not here")
async def test_published_support_data_imports_by_its_own_columns(house: House) -> None:
    data = await asyncio.to_thread(SUPPORT.read_bytes)
    house.importer._segment_rows = 5000
    record = await house.import_bytes(
        data, name="customer_support.csv", columns={"input": "instruction", "category": "category"}
    )
    assert (record.rows, record.accepted + record.quarantined) == (4514, 4514)
    assert record.accepted >= 4500


async def test_the_answer_names_the_format_and_the_shape_it_found(house: House) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    record = await house.import_bytes(json.dumps([{"messages": turns}] * 2).encode(), name="chats.json")
    assert (record.format, record.shape, record.accepted) == ("json", "openai-messages", 2)
    (row, _) = await house.rows("triage")
    assert json.loads(row["messages"]) == turns
    assert (row["form"], row["input"], row["output"]) == ("sft", "q", "a")


async def test_every_quarantined_record_can_be_had_as_it_lay(house: House) -> None:
    await house.apply("triage", max_import_errors=0.9)
    bad = [b'{"input": "q"}', b'{"input": "caf\xe9"}', b"{broken"]
    record = await house.import_bytes(jsonl({"input": "q", "output": "a"}, *bad))
    chunks = [chunk async for chunk in quarantine(house.database, house.objects, record.import_id)]
    lines = [json.loads(line) for line in b"".join(chunks).splitlines()]
    assert [(each["row"], each["field"]) for each in lines] == [(2, "output"), (3, ""), (4, "")]
    assert [each.get("raw", "").encode() or base64.b64decode(each["raw_base64"]) for each in lines] == [
        b'{"input": "q"}\n', b'{"input": "caf\xe9"}\n', b"{broken\n",
    ]  # fmt: skip


async def test_no_two_imports_share_what_they_set_aside_so_that_one_given_up_takes_nothing_from_another(
    house: House,
) -> None:
    await house.apply("triage", max_import_errors=0.9)
    data = jsonl({"input": "q", "output": "a"}, b"{broken")
    first, second = [await house.import_bytes(data, name=name) for name in ("a.jsonl", "b.jsonl")]
    assert first.quarantine != second.quarantine
    kept = json.loads(await house.objects.get_bytes(first.quarantine))
    assert (kept["import"], kept["row"], kept["raw"]) == (first.import_id, 2, "{broken\n")


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet"])
async def test_a_long_record_is_set_aside_whole(house: House, name: str) -> None:
    long = {"input": "q", "output": "x" * 300_000 + "end"}
    data = json.dumps(long).encode()
    if name == "a.json":
        data = b"[" + data + b', {"input": "q", "output": "a"}]'
    elif name == "a.csv":
        data = f'input,output\nq,"{long["output"]}"\nq,a\n'.encode()
    elif name == "a.parquet":
        file = io.BytesIO()
        pq.write_table(pa.table({"input": ["q", "q"], "output": [long["output"], "a"]}), file)
        data = file.getvalue()
    else:
        data = jsonl(data, {"input": "q", "output": "a"})
    await house.apply("triage", max_import_errors=0.9)
    record = await house.import_bytes(data, name=name)
    assert (record.accepted, record.quarantined) == (1, 1)
    (line,) = b"".join(
        [each async for each in quarantine(house.database, house.objects, record.import_id)]
    ).splitlines()
    raw = json.loads(line)["raw"]
    assert raw.strip() == f'q,"{long["output"]}"' if name == "a.csv" else json.loads(raw) == long


async def test_an_import_that_cannot_be_saved_any_more_is_stopped_on_the_way(house: House) -> None:
    data = jsonl({"input": "q", "output": "a"}, *([b"{broken" * 20] * 60_000))
    with pytest.raises(InvalidInput, match=r"rows are bad") as raised:
        await house.import_bytes(data)
    assert int(raised.value.metadata["rows"]) < 55_000
    with pytest.raises(InvalidInput, match=r"none of the first 3 records can be read. First: row 1: not JSON"):
        await house.import_bytes(jsonl(*([b"{broken"] * 3)))


async def test_progress_can_be_asked_for_by_the_callers_ticket(house: House) -> None:
    assert house.importer.progress("default", "t1") is None
    await house.import_bytes(jsonl(*({"input": f"q{at}", "output": "a"} for at in range(250))), ticket="t1")
    told = house.importer.progress("default", "t1")
    assert told is not None
    assert (told.state, told.rows, told.accepted, told.fraction) == ("completed", 250, 250, 1.0)
    assert house.importer.progress("another", "t1") is None
    with pytest.raises(InvalidInput):
        await house.import_bytes(b"", ticket="t2")
    assert getattr(house.importer.progress("default", "t2"), "state", "") == "failed"


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
async def test_bad_rows_that_lie_together_stop_no_import_that_ends_well_packed_or_not(house: House, name: str) -> None:
    """What is read ahead of a packed file says nothing of the rows to come, and they may be shorter."""
    house.importer._segment_rows = 2000
    good = [{"input": f"q{at}", "output": "the same answer"} for at in range(12_000)]
    data = jsonl(*good[:2000], *([b"{broken" * 20] * 1500), *good[2000:])
    packed = {"gz": gzip.compress, "zst": lambda raw: pa.compress(raw, codec="zstd", asbytes=True)}
    data = packed.get(name.rpartition(".")[2], bytes)(data)
    record = await house.import_bytes(data, name=name)
    assert (record.state, record.accepted, record.quarantined) == ("completed", 12_000, 1500)


async def test_a_segment_of_more_categories_than_a_fact_can_tell_is_told_all_the_same(house: House) -> None:
    house.importer._segment_rows = 5000
    rows = [{"input": f"q{at}", "output": "a", "kind": f"{min(at, 4800):04}" + "c" * 196} for at in range(5000)]
    record = await house.import_bytes(jsonl(*rows), columns={"category": "kind"})
    assert record.accepted == 5000
    await eventually(lambda: _all_facts(house, 2))
    told = (await house.stored("EVT"))[0][1]["categories"]
    assert (len(told), sum(told.values())) == (201, 5000)
    assert (told["4800" + "c" * 196], told["other"]) == (200, 5000 - 200 - 199)


@pytest.mark.parametrize(("number", "told"), [(errno.ENOSPC, ResourceExhausted), (errno.EACCES, PermissionError)])
def test_only_a_full_disk_is_called_one(tmp_path: Path, number: int, told: type[Exception]) -> None:
    with pytest.raises(told), Spool(tmp_path, 10).directory():
        raise OSError(number, "refused")


async def test_an_import_of_another_tenant_is_none(house: House) -> None:
    record = await house.import_bytes(jsonl({"input": "q", "output": "a"}))
    assert (await imports.owned(house.database, "default", record.import_id)).import_id == record.import_id
    servicer = IngestionServicer(
        house.database, house.tasks, house.objects, cast("Any", None), house.importer.progress, tenant="another"
    )
    with pytest.raises(NotFound, match="no import"):
        await servicer.GetImport(pb.GetImportRequest(import_id=record.import_id), None)
    with pytest.raises(NotFound, match="no import"):
        await anext(servicer.DownloadQuarantine(pb.DownloadQuarantineRequest(import_id=record.import_id), None))
