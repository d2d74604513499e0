"""A record that is imported again with other terms is one record, and its last version stands."""

from pathlib import Path
from typing import Any

import polars as pl

from libs.contracts.ids import record_of, versioned
from services.curation.compute.erasure import _rows_of
from services.curation.compute.rows import load
from services.curation.tests.conftest import row

NOTHING = dict.fromkeys(("system", "category", "group", "request_id", "licence", "user", "consent"))


def segment(home: Path, number: int, row_id: str, **terms: Any) -> tuple[int, Path]:
    line = {
        **NOTHING, "row_id": row_id, "kind": "example", "source": "crm", "input": "q", "output": "a", "signal": "good",
        "created_at": row(0, "").created_at, **terms,
    }  # fmt: skip
    path = home / f"{number}.parquet"
    types = {"consent": pl.Boolean, "user": pl.String, "licence": pl.String}
    pl.DataFrame([line], schema_overrides=types).write_parquet(path)
    return number, path


def test_the_last_terms_of_a_record_stand_and_whose_it_is_stays(tmp_path: Path) -> None:
    first = segment(tmp_path, 1, "imp-1")
    second = segment(tmp_path, 2, versioned("imp-1", True, None, "ann"), consent=True, user="ann")
    third = segment(tmp_path, 3, versioned("imp-1", False, None, None), consent=False)
    other = segment(tmp_path, 4, "imp-2")

    def told(*segments: tuple[int, Path]) -> list[tuple[str, bool | None, str | None]]:
        return [(each.row_id, each.consent, each.user) for each in load(segments)]

    assert told(first, second) == [("imp-1", True, "ann")]
    assert told(first, second, third, other) == [("imp-1", False, "ann"), ("imp-2", None, None)]
    # A file without the terms takes back none that another gave.
    assert told(second, first) == [("imp-1", True, "ann")]


def test_what_a_later_version_says_nothing_of_stays_as_it_was(tmp_path: Path) -> None:
    withheld = segment(tmp_path, 1, versioned("imp-1", False, "MIT", None), consent=False, licence="MIT")
    licensed = segment(tmp_path, 2, versioned("imp-1", None, "CC0", None), licence="CC0")
    given = segment(tmp_path, 3, versioned("imp-1", True, None, None), consent=True)
    again = segment(tmp_path, 4, versioned("imp-1", False, "MIT", None) + ".0123abcd", consent=False, licence="MIT")

    def told(*segments: tuple[int, Path]) -> list[tuple[str, bool | None, str | None]]:
        return [(each.row_id, each.consent, each.licence) for each in load(segments)]

    assert told(withheld, licensed) == [("imp-1", False, "CC0")]
    assert told(withheld, licensed, given) == [("imp-1", True, "CC0")]
    assert told(withheld, licensed, given, again) == [("imp-1", False, "MIT")]


def test_an_erasure_names_the_record_and_not_one_of_its_versions(tmp_path: Path) -> None:
    _, path = segment(tmp_path, 1, versioned("imp-1", None, None, "ann"), user="ann")
    assert _rows_of(path, "ann") == {"imp-1"}
    assert record_of("fb-1") == "fb-1"
