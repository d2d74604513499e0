"""Small segments of the inference log become one, what a kill leaves behind is swept, and no row is lost."""

from pathlib import Path

from services.ingestion.store.puts import JournalledStore, PutJournal
from services.ingestion.tests.conftest import House
from services.ingestion.tests.test_inferences import deliver, inference, listed
from services.ingestion.workflows.tidying import Tidying


def tidying(house: House, home: Path) -> tuple[Tidying, PutJournal]:
    journal = PutJournal(home / "puts.log")

    def kept(tenant: str) -> JournalledStore:
        return JournalledStore(house.objects.for_tenant(tenant), journal, tenant)

    return Tidying(house.database, kept, journal, small=100, most=50, least=3), journal


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
    assert await fresh.sweep() == 1
    assert await objects(house) == {named}
    assert journal.noted() == set()
