"""Whoever is erased while something is made of her rows is in nothing that is kept of it."""

import asyncio
import json
from typing import Any

import pytest

from libs.artifacts import ObjectStore
from libs.contracts.commands import BuildDataset
from libs.contracts.errors import Conflict, FailedPrecondition, NotFound, Unavailable
from libs.contracts.events import SubjectErased
from libs.testing.wait import eventually
from services.curation.domain.rows import Row
from services.curation.domain.split import SPLITS
from services.curation.handlers.building import Built
from services.curation.store import datasets, erasures, review, staged
from services.curation.store.segments import over_segments
from services.curation.tests.conftest import House, row, spec_of, tickets
from services.curation.workflows.erasing import hash_of

ANN = hash_of("default", "ann")


def hers() -> list[Row]:
    return [
        row(400 + at, each.input, "a", user=ANN, category="c1", group=f"h{at}")
        for at, each in enumerate(tickets(12, 400))
    ]


async def text_of(house: House, digest: str) -> str:
    """Every line of the dataset's splits; empty for what is gone."""
    tree = await house.objects.get_manifest(digest)
    found = []
    for name in SPLITS:
        try:
            found.append((await house.objects.get_bytes(tree.files[f"{name}.jsonl"].digest)).decode())
        except NotFound:
            continue
    return "".join(found)


async def test_a_build_under_which_a_subject_is_erased_is_done_again_without_her(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, erased = asyncio.Event(), asyncio.Event()
    build = house.builder.build
    builds: list[Built] = []

    async def slow(*given: Any) -> Built:
        built = await build(*given)
        builds.append(built)
        waiting.set()
        await erased.wait()
        return built

    monkeypatch.setattr(house.builder, "build", slow)
    await house.segment([*tickets(100), *hers()])
    await house.ask(1, watermark=1)
    await asyncio.wait_for(waiting.wait(), 60)
    await house.erasing.erase("default", "triage", "ann", by="dpo", reason="17")
    erased.set()
    await house.answers(2)
    found = await datasets.get(house.database, "default", "triage", 1)
    assert (len(builds), found.quarantined, found.removed["erased_subject"]) == (2, None, 12)
    text = await text_of(house, found.digest)
    assert text
    assert not any(each.input in text for each in hers())
    before = await text_of(house, builds[0].dataset.digest)
    assert not any(each.input in before for each in hers())
    queued, _ = await review.listed(house.database, "default", "triage", state="", limit=1000)
    assert not any(each.row_id in {mine.row_id for mine in hers()} for each in queued)


async def killed_before_it_was_recorded(house: House) -> Built:
    """The first version, of her rows among others: its objects are there, and nothing says so."""
    await house.segment([*tickets(100), *hers()])

    async def known() -> bool:
        return bool(await datasets.segments_to(house.database, "default", "triage", 9))

    await eventually(known, 20)
    command = BuildDataset(tenant="default", task="triage", turn_id="t", spec=spec_of(), number=1, watermark=1)
    return await over_segments(
        house.database, "default", "triage", lambda segments: house.builder.build(command, segments), watermark=1
    )


async def test_what_a_killed_build_left_of_an_erased_subject_goes_and_nothing_that_a_version_holds(
    house: House,
) -> None:
    left = await killed_before_it_was_recorded(house)
    assert hers()[0].input in await text_of(house, left.dataset.digest)
    await house.erasing.erase("default", "triage", "ann", by="dpo", reason="17")
    assert await text_of(house, left.dataset.digest) == ""
    built = await house.built([])
    assert await staged.listed(house.database, "default", "triage") == set()
    tree = await house.objects.get_manifest(built.digest)
    for digest in (*(ref.digest for ref in tree.files.values()), built.report_digest):
        await house.objects.get_bytes(digest)
    # The same again beside a version that is there: what both hold stays.
    shared = tree.files["train.jsonl"].digest
    async with house.database.unit() as unit:
        await staged.add(unit, "default", "triage", [shared, left.dataset.report_digest])
    await house.erasing.erase("default", "triage", "bob", by="dpo", reason="17")
    assert await text_of(house, built.digest)
    await house.built([], 2)
    assert await house.objects.get_bytes(shared)


async def test_a_build_waits_until_what_it_puts_is_not_being_deleted_any_more(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = await killed_before_it_was_recorded(house)

    async def away(*given: object) -> None:
        raise Unavailable("storage is away")

    with monkeypatch.context() as patched:
        patched.setattr(ObjectStore, "delete", away)
        with pytest.raises(Unavailable):
            await house.erasing.erase("default", "triage", "bob", by="dpo", reason="17")
    await house.ask(1, watermark=1)
    # The same bytes as were left, which the erasure has yet to delete.
    with pytest.raises(Unavailable, match="being deleted"):
        await killed_again(house)
    await house.erasing.resume()
    await house.answers(2)
    found = await datasets.get(house.database, "default", "triage", 1)
    trees = [await house.objects.get_manifest(each) for each in (found.digest, left.dataset.digest)]
    assert trees[0].files["train.jsonl"] == trees[1].files["train.jsonl"]
    assert hers()[0].input in await text_of(house, found.digest)


async def killed_again(house: House) -> Built:
    command = BuildDataset(tenant="default", task="triage", turn_id="t", spec=spec_of(), number=1, watermark=1)
    return await house.builder.build(command, await datasets.segments_to(house.database, "default", "triage", 1))


async def test_an_erasure_asked_for_again_before_it_was_done_still_deletes_and_tells_everything(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = await house.built([*tickets(100), *hers()])

    async def away(*given: object) -> None:
        raise Unavailable("storage is away")

    with monkeypatch.context() as patched:
        patched.setattr(ObjectStore, "delete", away)
        with pytest.raises(Unavailable):
            await house.erasing.erase("default", "triage", "ann", by="dpo", reason="17")
    first = (await erasures.of_task(house.database, "default", "triage"))[0].touched
    done, _ = await house.erasing.erase("default", "triage", "ann", by="dpo", reason="17")
    assert (done.state, done.touched, [each["number"] for each in first]) == ("done", first, [1])
    assert sum(first[0]["rows"].values()) == 12
    left = await text_of(house, built.digest)
    assert not any(each.input in left for each in hers())
    with pytest.raises(NotFound):
        await house.objects.get_bytes(built.report_digest)
    told = [body for subject, body, _ in await house.answers(3) if subject == SubjectErased.subject]
    assert [each["numbers"] for each in told] == [[1], [1]]


async def test_a_synthesis_under_which_a_subject_is_erased_asks_for_nothing_and_takes_no_seed_of_a_quarantined_version(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy: dict[str, Any] = {"data": {"curation": {"synthesis": {"url": "http://localhost:9", "model": "big"}}}}
    await house.apply(**policy)
    await house.built([*tickets(100), *hers()], **policy)

    async def complete(*given: object, **more: object) -> str:
        await house.erasing.erase("default", "triage", "ann", by="dpo", reason="17")
        return json.dumps([{"input": "a purple elephant stands on the stage", "output": "answer 1"}])

    monkeypatch.setattr(house.chat, "complete", complete)
    with pytest.raises(Conflict, match="erased meanwhile"):
        await house.synthesis.write("default", "triage", 1, "")
    queued, _ = await review.listed(house.database, "default", "triage", kind="synthetic")
    assert queued == []
    with pytest.raises(FailedPrecondition, match="quarantined"):
        await house.synthesis.write("default", "triage", 1, "")
