"""A subject who asks for it is gone: rows, what was derived from them, and every version that held them is named."""

import json
from pathlib import Path

import polars as pl
import pytest

from libs.artifacts import ObjectStore
from libs.contracts.errors import NotFound
from libs.contracts.events import DatasetBuilt, RewrittenSegment, SegmentsRewritten, SubjectErased
from libs.contracts.stubs.pawl.curation.v1 import curation_pb2 as pb
from libs.testing.wait import eventually
from services.curation.domain.rows import Row
from services.curation.store import datasets, erasures, review
from services.curation.tests.conftest import House, row, tickets, write_segment
from services.curation.workflows.erasing import Erasing, hash_of

ANN = hash_of("default", "ann")


def texts_of(count: int) -> list[str]:
    return [each.input for each in tickets(count, 400)]


async def test_erasure_names_what_it_touched_and_leaves_nothing(house: House, object_store: ObjectStore) -> None:
    hers = [row(400 + at, text, "a", user=ANN, category="c1") for at, text in enumerate(texts_of(12))]
    first = await house.built([*tickets(120), *hers])
    # The tombstone is set by a process that is killed before it does anything else.
    killed = Erasing(house.database, house.library, house.home / "errands")
    async with house.database.unit() as unit:
        await erasures.ask(unit, "default", "triage", ANN, by="dpo", reason="article 17")
    await killed.resume()
    done = await house.rpc.EraseSubject(
        pb.EraseSubjectRequest(task="triage", user="ann", by="dpo", reason="article 17"), None
    )
    assert (done.user_hash, done.rows, done.state) == (ANN, 12, "done")
    facts = [body for subject, body, _ in await house.answers(2) if subject == SubjectErased.subject]
    assert facts[0]["datasets"] == [first.digest]
    found = await house.rpc.GetDataset(pb.GetDatasetRequest(task="triage", number=1), None)
    assert "erased by dpo" in found.dataset.quarantined
    assert found.report_json == ""
    manifest = await house.objects.get_manifest(first.digest)
    for name in ("train.jsonl", "report.json"):
        try:
            await house.objects.get_bytes(manifest.files[name].digest)
        except NotFound:
            continue
        raise AssertionError(name)
    second = await house.built([], 2)
    assert second.removed["erased_subject"] == 12
    tree = await house.objects.get_manifest(second.digest)
    suite = await house.objects.get_manifest(second.suite_digest)
    held = [tree.files[name].digest for name in ("train.jsonl", "validation.jsonl", "test.jsonl", "report.json")]
    for digest in [*held, suite.files["items.jsonl"].digest]:
        body = (await house.objects.get_bytes(digest)).decode()
        assert not any(text in body for text in texts_of(12))
    told = await house.rpc.GetHistory(pb.GetHistoryRequest(task="triage", row_id="row-00400", number=2), None)
    assert [each.rule for each in told.entries] == ["erased_subject"]
    assert told.group == ""
    # Asked for again, it touches no version that never held them.
    request = pb.EraseSubjectRequest(task="triage", user="ann", by="dpo", reason="18")
    again = await house.rpc.EraseSubject(request, None)
    assert [each.number for each in again.touched] == [1]
    found = await house.rpc.GetDataset(pb.GetDatasetRequest(task="triage", number=2), None)
    assert found.dataset.quarantined == ""


async def test_who_asked_is_erased_with_what_others_made_of_it_and_is_quoted_nowhere(house: House) -> None:
    words = texts_of(12)
    hers = [row(400 + at, text, "a", user="expert", subject=ANN, category="c1") for at, text in enumerate(words)]
    # Somebody else's question quotes her answer, and an audit quotes them both.
    hers += [row(500, "the same text", words[0], user=ANN), row(501, "the same text", "bob's", user="bob")]
    await house.apply()
    first = await house.built([*tickets(120), *hers])
    audit = await house.rpc.AuditTask(pb.AuditTaskRequest(task="triage"), None)
    queued, _ = await review.listed(house.database, "default", "triage")
    assert words[0] in {each.suggestion for each in queued if each.row_id == "row-00501"}
    done = await house.rpc.EraseSubject(pb.EraseSubjectRequest(task="triage", user="ann", by="dpo", reason="17"), None)
    assert (done.rows, [each.number for each in done.touched]) == (13, [first.number])
    queued, _ = await review.listed(house.database, "default", "triage", state="")
    assert not any(words[0] in str(each) for each in queued)
    for digest in (audit.json_digest, audit.html_digest):
        with pytest.raises(NotFound):
            await house.objects.get_bytes(digest)
    second = await house.built([], 2)
    assert second.removed["erased_subject"] == 13


async def test_a_rewritten_segment_is_read_in_place_of_the_old_one_which_goes(house: House) -> None:
    hers = [row(400 + at, text, "a", user=ANN, category="c1") for at, text in enumerate(texts_of(12))]
    old = await house.segment([*tickets(120), *hers], announce=False)
    new = await house.objects.put_file(write_segment(house.home / "new.parquet", tickets(120)), kind="segment")
    # Told before the segment itself is known: it waits for it.
    change = RewrittenSegment(number=1, before=old.digest, after=new)
    await house.say(SegmentsRewritten(tenant="default", task="triage", user=ANN, segments=(change,)))
    await house.say(old)

    async def known() -> bool:
        return await datasets.segments_to(house.database, "default", "triage", 9) == [(1, new)]

    await eventually(known, 20)
    built = await house.built([])
    assert sum(built.splits.values()) + sum(built.removed.values()) == 120

    async def gone() -> bool:
        try:
            await house.objects.get_bytes(old.digest)
        except NotFound:
            return True
        return False

    assert await eventually(gone, 10)


async def rewritten_at_first_sight(house: House, monkeypatch: pytest.MonkeyPatch, rows: list[Row]) -> None:
    """One segment, of 120 tickets; whoever fetches it finds that one of these rows took its place by then."""
    old = await house.segment(tickets(120))
    new = await house.objects.put_file(write_segment(house.home / "new.parquet", rows), kind="segment")
    fetched = house.library.file

    async def file(tenant: str, digest: str, suffix: str = ".parquet") -> Path:
        found = await fetched(tenant, digest, suffix)
        if digest == old.digest and found.exists():
            change = RewrittenSegment(number=1, before=old.digest, after=new)
            await house.say(SegmentsRewritten(tenant="default", task="triage", segments=(change,)))
            await eventually(lambda: not found.exists(), 10)
        return found

    monkeypatch.setattr(house.library, "file", file)
    await eventually(lambda: known_segments(house), 20)


async def known_segments(house: House) -> list[tuple[int, str]]:
    return await datasets.segments_to(house.database, "default", "triage", 9)


async def test_a_build_whose_segments_are_rewritten_under_it_reads_the_new_ones(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rewritten_at_first_sight(house, monkeypatch, tickets(110))
    built = await house.built([])
    assert sum(built.splits.values()) + sum(built.removed.values()) == 110


async def test_an_audit_whose_segments_are_rewritten_under_it_sees_the_new_ones(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.apply()
    await rewritten_at_first_sight(house, monkeypatch, tickets(110))
    audit = await house.looking.audit("default", "triage")
    assert json.loads(audit.as_json)["rows"]["total"] == 110


async def test_an_erasure_whose_segments_are_rewritten_under_it_finds_the_subject_in_the_new_ones(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    hers = [row(400 + at, text, "a", user=ANN) for at, text in enumerate(texts_of(12))]
    await rewritten_at_first_sight(house, monkeypatch, [*tickets(110), *hers])
    erased, _ = await house.erasing.erase("default", "triage", ANN, by="dpo", reason="article 17")
    assert len(erased.row_ids) == 12


async def test_segments_that_share_an_object_give_the_same_version_up_to_any_watermark(house: House) -> None:
    parts = [tickets(40, at) for at in (0, 40, 80)]
    olds = [(await house.segment(part)).digest for part in parts]
    await house.ask(1, watermark=2)
    first = DatasetBuilt.model_validate((await house.answers(1))[-1][1])
    tables = [pl.read_parquet(house.home / f"{number}.parquet") for number in (1, 2, 3)]
    whole = pl.concat([table.with_columns(number=pl.lit(at, pl.Int64)) for at, table in enumerate(tables, 1)])
    whole.write_parquet(house.home / "whole.parquet")
    digest = await house.objects.put_file(house.home / "whole.parquet", kind="segment")
    # Told in two events: the object of the first stays while the second's segment still lies in it.
    for numbers in ((1, 2), (3,)):
        told = tuple(RewrittenSegment(number=each, before=olds[each - 1], after=digest) for each in numbers)
        await house.say(SegmentsRewritten(tenant="default", task="triage", segments=told))

    async def known() -> bool:
        return {each for _, each in await datasets.segments_to(house.database, "default", "triage", 9)} == {digest}

    await eventually(known, 20)
    before = len(await house.facts())
    await house.ask(2, watermark=2)
    again = DatasetBuilt.model_validate((await house.answers(before + 1))[-1][1])
    assert (again.splits, again.removed) == (first.splits, first.removed)
    for name in ("train.jsonl", "validation.jsonl", "test.jsonl"):
        files = [(await house.objects.get_manifest(each.digest)).files[name].digest for each in (first, again)]
        assert files[0] == files[1], name
