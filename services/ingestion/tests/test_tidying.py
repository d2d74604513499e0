"""Small segments of the inference log become one, what a kill leaves behind is swept, and no row is lost."""

import asyncio
import io
import json
from errno import ENOSPC, EROFS
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from minio.error import S3Error
from sqlalchemy import update
from urllib3 import HTTPResponse

from libs.artifacts import ObjectStore
from libs.artifacts.s3 import s3_errors
from libs.contracts.errors import Conflict, Transient, Unavailable
from libs.contracts.inference import Message
from libs.eventing.deadletters import list_dead
from libs.testing.wait import eventually
from services.ingestion.compute.segments import segment_of
from services.ingestion.store import compaction, signals
from services.ingestion.store.puts import JournalledStore, PutJournal
from services.ingestion.store.segments import Size, segments_after
from services.ingestion.store.tables import SEGMENTS
from services.ingestion.tests.conftest import House
from services.ingestion.tests.test_erasing import ANN, SECRET, asked, bytes_of_everything, erasing, taken
from services.ingestion.tests.test_inferences import deliver, inference, listed
from services.ingestion.workflows.tidying import Tidying

SMALL, MOST = Size(100, 10**6), Size(50, 10**6)


def tidying(house: House, home: Path) -> tuple[Tidying, PutJournal]:
    journal = PutJournal(home / "puts.log")

    def kept(tenant: str) -> JournalledStore:
        return JournalledStore(house.objects.for_tenant(tenant), journal, tenant)

    return Tidying(house.database, kept, journal, small=SMALL, most=MOST, least=3, settled=0.0), journal


async def imported(house: House, *numbers: int) -> None:
    """A segment of two rows for each number; one row is Ann's."""
    await house.apply("triage", columns={"user": "who"})
    for number in numbers:
        lines = [{"input": f"q{number}", "output": "a", "who": who} for who in ("ann", "bob")]
        await house.import_bytes("\n".join(map(json.dumps, lines)).encode(), name=f"{number}.jsonl")


async def by_number(house: House) -> dict[int, list[dict[str, Any]]]:
    """What a reader of each segment finds."""
    found = {}
    for each in await segments_after(house.database, "default", "triage", 0, 100):
        data = await house.objects.for_tenant("default").get_bytes(each.digest)
        found[each.number] = segment_of(pq.read_table(io.BytesIO(data)), each.number).to_pylist()
        assert len(found[each.number]) == each.rows
    return found


async def digests(house: House) -> set[str]:
    return {each.digest for each in await segments_after(house.database, "default", "triage", 0, 100)}


async def objects(house: House) -> set[str]:
    return {each.digest async for each in house.objects.for_tenant("default").list_objects()}


async def test_small_segments_become_one_with_the_same_rows_and_the_old_ones_go(house: House, tmp_path: Path) -> None:
    for number in range(4):
        await deliver(house, inference(f"r{number}"), inference(f"s{number}"))
    before, stored = await listed(house), await objects(house)
    tidy, _ = tidying(house, tmp_path)
    assert await tidy.compact() == 3
    assert sorted(await listed(house)) == sorted(before)
    (whole,) = await objects(house)
    assert whole not in stored
    assert await tidy.compact() == 0


async def test_an_object_that_was_put_and_never_listed_is_swept_and_a_listed_one_stays(
    house: House, tmp_path: Path
) -> None:
    await deliver(house, inference("r1"))
    (named,) = await objects(house)
    tidy, journal = tidying(house, tmp_path)
    orphan = await tidy._objects("default").put_bytes(b"half done", kind="segment")
    journal.note("default", named)
    assert await objects(house) == {orphan, named}
    fresh, _ = tidying(house, tmp_path)
    assert await fresh.sweep(60.0) == 0, "it may be about to be listed"
    assert await fresh.sweep() == 1
    assert await objects(house) == {named}
    assert not journal.noted()


async def test_small_segments_share_an_object_and_each_number_reads_what_it_read(house: House, tmp_path: Path) -> None:
    await imported(house, 1, 2, 3, 4)
    before, olds = await by_number(house), await digests(house)
    tidy, _ = tidying(house, tmp_path)
    assert await tidy.gather() == 3
    assert await by_number(house) == before
    (whole,) = await digests(house)
    # The old objects stay until whoever reads segments knows of the new one.
    assert olds < await objects(house)
    (told,) = await eventually(lambda: rewritten(house), 10)
    assert [each["number"] for each in told["segments"]] == [1, 2, 3, 4]
    assert {each["before"] for each in told["segments"]} == olds
    assert {each["after"] for each in told["segments"]} == {whole}
    assert await tidy.gather() == 0
    await imported(house, 5, 6)
    assert await tidy.gather() == 2
    assert {number: before[number] for number in before} == {
        number: rows for number, rows in (await by_number(house)).items() if number <= 4
    }
    assert len(await digests(house)) == 1


async def test_few_rows_of_many_bytes_are_not_gathered(house: House, tmp_path: Path) -> None:
    """Five thousand rows may hold a gigabyte."""
    for number in range(1, 6):
        await house.import_bytes(json.dumps({"input": "x" * 60_000, "output": f"{number}"}).encode(), name=f"{number}")
        messages = (Message(role="user", content="x" * 60_000),)
        await deliver(house, inference(f"r{number}", messages=messages))
    for small, most, fewer in (
        (Size(100, 50_000), MOST, 0),
        (SMALL, Size(50, 150_000), 0),
        (SMALL, Size(50, 200_000), 2),
    ):
        tidy, _ = tidying(house, tmp_path)
        tidy._small, tidy._most = small, most
        assert await tidy.gather() == fewer
    tidy._small = Size(100, 50_000)
    assert await tidy.compact() == 0
    tidy._small, tidy._most = SMALL, Size(50, 150_000)
    assert await tidy.compact() == 1


async def test_an_erased_user_leaves_an_object_that_segments_share(house: House, tmp_path: Path) -> None:
    await imported(house, 1, 2, 3)
    tidy, _ = tidying(house, tmp_path)
    assert await tidy.gather() == 2
    await erasing(house, tmp_path).erase(asked())
    left = await by_number(house)
    assert {number: len(rows) for number, rows in left.items()} == {1: 1, 2: 1, 3: 1}
    assert not any(each["user"] == ANN for rows in left.values() for each in rows)


async def test_segments_that_move_meanwhile_are_left_as_they_are_and_nothing_read_of_them_stays(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await imported(house, 1, 2, 3)
    tidy, _ = tidying(house, tmp_path)
    relist = compaction.relist

    async def late(unit: Any, owner: Any, segments: Any, digest: str) -> None:
        await unit.session.execute(update(SEGMENTS).where(SEGMENTS.c.number == 2).values(digest="sha256:moved"))
        await relist(unit, owner, segments, digest)

    before, stored = await by_number(house), await objects(house)
    monkeypatch.setattr(compaction, "relist", late)
    with pytest.raises(Conflict, match="segment 2"):
        await tidy.gather()
    assert (await by_number(house), await objects(house)) == (before, stored)


async def test_a_kill_before_segments_are_relisted_leaves_them_and_an_orphan_that_is_swept(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await imported(house, 1, 2, 3)
    before, stored = await by_number(house), await objects(house)
    tidy, _ = tidying(house, tmp_path)

    async def killed(*_: Any) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(compaction, "relist", killed)
    with pytest.raises(RuntimeError):
        await tidy.gather()
    fresh, _ = tidying(house, tmp_path)
    assert await fresh.sweep() == 1
    assert (await by_number(house), await objects(house)) == (before, stored)


async def test_a_merge_of_the_log_that_an_erasure_overtakes_leaves_none_of_its_words(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = (Message(role="user", content=SECRET),)
    await deliver(house, inference("r1", unit="ann", messages=messages))
    for number in range(3):
        await deliver(house, inference(f"s{number}"))
    tidy, _ = tidying(house, tmp_path)
    replace = compaction.replace

    async def late(unit: Any, *arguments: Any) -> None:
        raise Conflict("somebody else compacted these segments")

    monkeypatch.setattr(compaction, "replace", late)
    with pytest.raises(Conflict):
        await tidy.compact()
    monkeypatch.setattr(compaction, "replace", replace)
    await erasing(house, tmp_path).erase(asked())
    assert SECRET not in await bytes_of_everything(house)


async def test_a_batch_that_is_not_listed_the_first_time_leaves_no_second_object(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On any database: what nobody lists no erasure would find."""
    take_in, calls = signals.take_in, 0

    async def raced(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise Conflict("somebody else took these signals")
        await take_in(*arguments)

    monkeypatch.setattr(signals, "take_in", raced)
    await house.consume()
    await house.say("triage", kind="correction", id="1", input="q", correction=SECRET)
    await taken(house, 1)
    assert calls == 2
    assert await objects(house) == await digests(house)


async def rewritten(house: House) -> list[dict[str, Any]]:
    return [body for subject, body in await house.stored("EVT") if "segments.rewritten" in subject]


@pytest.mark.parametrize(("error", "reason"), [(ENOSPC, "DISK_FULL"), (EROFS, "FILE_SYSTEM")])
async def test_a_signal_whose_object_cannot_be_noted_is_held_and_no_dead_letter(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, reason: str
) -> None:
    journal, refused = PutJournal(tmp_path / "puts.log"), asyncio.Event()
    open_ = Path.open

    def refuse(self: Path, *arguments: Any, **given: Any) -> Any:
        if self.name == "puts.log":
            refused.set()
            raise OSError(error, "refused")
        return open_(self, *arguments, **given)

    house.feedback._objects = lambda tenant: JournalledStore(house.objects.for_tenant(tenant), journal, tenant)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refuse)
        with pytest.raises(Transient) as raised:
            journal.note("default", "sha256:" + "0" * 64)
        assert raised.value.reason == reason
        refused.clear()
        await house.say("triage", kind="rating", id="1", user="bob", rating=0, input="q")
        await house.consume()
        await asyncio.wait_for(refused.wait(), 10)
        await asyncio.sleep(0.2)
        assert "waits" in str(house.consumers[0].check())
    await taken(house, 1)
    assert await list_dead(house.link.js) == []


@pytest.mark.parametrize(("code", "status"), [("ExpiredToken", 400), ("AccessDenied", 403), ("NoSuchBucket", 404)])
async def test_while_storage_refuses_us_signals_inferences_and_erasures_are_held(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, status: int
) -> None:
    journal, refused = PutJournal(tmp_path / "puts.log"), asyncio.Event()

    def kept(tenant: str) -> JournalledStore:
        return JournalledStore(house.objects.for_tenant(tenant), journal, tenant)

    async def refuse(*_: Any) -> Any:
        refused.set()
        with s3_errors("it"):
            response = HTTPResponse(status=status)
            raise S3Error(response, code, "no", "", "", "")

    house.feedback._objects = house.inferences._objects = kept
    with monkeypatch.context() as patched:
        patched.setattr(ObjectStore, "_transfer", refuse)
        await house.say("triage", kind="rating", id="1", user="bob", rating=0, input="q")
        await house.answer(inference("r1"), "triage")
        await house.consume()
        await asyncio.wait_for(refused.wait(), 10)
        await asyncio.sleep(0.5)
        assert all("waits" in str(each.check()) for each in house.consumers)
    await taken(house, 1)

    async def logged() -> bool:
        return len(await listed(house)) == 1

    await eventually(logged, 20)
    assert await list_dead(house.link.js) == []
    if code != "NoSuchBucket":
        monkeypatch.setattr(ObjectStore, "_transfer", refuse)
        with pytest.raises(Unavailable):
            await erasing(house, tmp_path).erase(asked())
