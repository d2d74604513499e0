"""Consent by import: what was taken back stays taken back, on every database."""

import pytest

from libs.contracts.errors import InvalidInput
from libs.contracts.ids import record_of
from libs.outbox.tests.conftest import POSTGRES, ledger_url, postgres  # noqa: F401 - fixtures
from services.ingestion.tests.conftest import House
from services.ingestion.tests.test_imports import jsonl

pytestmark = pytest.mark.parametrize("ledger_url", ["sqlite", *(["postgres"] if POSTGRES else [])], indirect=True)


@pytest.fixture
def database_url(ledger_url: str) -> str:  # noqa: F811
    """SQLite, and Postgres where this machine has one."""
    return ledger_url


def may(*consents: bool | None, end: bytes = b"") -> bytes:
    return jsonl(*({"input": f"q{at}", "output": "a", "may": each} for at, each in enumerate(consents))) + end


async def standing(house: House) -> list[bool | None]:
    """What the last row of each record says of consent."""
    return list({record_of(row["row_id"]): row["consent"] for row in await house.rows("triage")}.values())


@pytest.mark.parametrize("end", [b"", b"\n"], ids=["the same file", "another file"])
async def test_consent_that_is_taken_back_once_more_is_taken_back(house: House, end: bytes) -> None:
    columns = {"columns": {"consent": "may"}}
    await house.import_bytes(may(False, False, True), **columns)
    await house.import_bytes(may(True, False, True), **columns)
    assert await standing(house) == [True, False, True]
    back = await house.import_bytes(may(False, False, True, end=end), **columns)
    assert (back.state, back.accepted, back.already_seen) == ("completed", 1, 2)
    assert await standing(house) == [False, False, True]
    again = await house.import_bytes(may(False, False, True, end=end), **columns)
    assert (again.accepted, again.already_seen, again.import_id) == (0, 3, back.import_id)
    # An old file that gives it is a repetition, and gives nothing; it is taken back only once.
    await house.import_bytes(may(True, False, True, end=end), **columns)
    for data in (may(False, False, True, end=b"\n\n"), may(False, False, True, end=end)):
        assert (await house.import_bytes(data, **columns)).accepted == 0
    assert await standing(house) == [False, False, True]


async def test_consent_is_given_and_taken_back_as_often_as_somebody_says_so_under_terms_of_its_own(
    house: House,
) -> None:
    for at, given in enumerate([False, True, False, True, False]):
        terms = {"may": given, "terms": f"CC-{at}" if given else "CC"}
        columns = {"consent": "may", "licence": "terms"}
        taken = await house.import_bytes(jsonl({"input": "q", "output": "a", **terms}), columns=columns)
        assert taken.accepted == 1
        assert await standing(house) == [given]


async def test_consent_that_an_import_took_back_and_failed_stands(house: House) -> None:
    columns = {"columns": {"consent": "may"}}
    for given in (False, True):
        await house.import_bytes(may(given), **columns)
    with pytest.raises(InvalidInput):
        await house.import_bytes(may(False, end=b"rubbish\n" * 30), **columns)
    assert await standing(house) == [True]
    assert (await house.import_bytes(may(False), **columns)).accepted == 1
    assert await standing(house) == [False]
