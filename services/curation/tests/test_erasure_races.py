"""Whoever is erased while something is made of her rows is in nothing that is kept of it."""

import asyncio

import pytest

from libs.contracts.errors import NotFound
from services.curation.domain.rows import Row
from services.curation.domain.split import SPLITS
from services.curation.store import datasets, review
from services.curation.tests.conftest import House, row, tickets
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
    builds = []

    async def slow(*given: object) -> object:
        built = await build(*given)  # type: ignore[arg-type]
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
    queued, _ = await review.listed(house.database, "default", "triage", state="", limit=1000)
    assert not any(each.row_id in {mine.row_id for mine in hers()} for each in queued)
