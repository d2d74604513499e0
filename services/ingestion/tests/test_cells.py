"""A CSV is read as RFC 4180 says, and a quote that is none of its own costs its line alone."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingestion.compute import cells, files
from services.ingestion.compute.cells import MAX_RECORD_LINES, _walk
from services.ingestion.compute.files import Fault, Record

HEADER = "input,output\n"
MANY = "".join(f"q{at},a{at}\n" for at in range(50))


def read(directory: Path, text: str) -> list[Record | Fault]:
    path = directory / "a.csv"
    path.write_text(text, newline="")
    return list(files.read(path, "a.csv", "csv"))


def rows(found: list[Record | Fault]) -> list[list[str]]:
    return [list(each.fields.values()) for each in found if isinstance(each, Record)]


def faults(found: list[Record | Fault]) -> list[tuple[int, str]]:
    return [(each.number, each.raw.decode()) for each in found if isinstance(each, Fault)]


@pytest.mark.parametrize("cell", ['5" pipe', 'a 5"', 'he said "hi" there', 'x""y', "6'2\" tall"])
def test_a_quote_within_a_bare_cell_is_a_letter_like_any_other(tmp_path: Path, cell: str) -> None:
    for text, row in ((f"{cell},a\n", [cell, "a"]), (f"q,{cell}\n", ["q", cell])):
        found = read(tmp_path, HEADER + text + MANY)
        assert (rows(found)[0], len(rows(found)), faults(found)) == (row, 51, [])


@pytest.mark.parametrize("line", ['"open,a\n', 'q,"open\n', '"x"y,"open\n'])
def test_a_quote_that_is_never_closed_costs_its_line_alone(tmp_path: Path, line: str) -> None:
    for after in (MANY, '"fine",b\n' + MANY, 'x,"fine"\n' + MANY, '5" pipe,b\n' + MANY):
        found = read(tmp_path, HEADER + MANY + line + MANY + after)
        assert len(rows(found)) == 100 + after.count("\n")
        assert faults(found) == [(52, line)]


def test_each_of_many_unclosed_quotes_costs_its_line_alone(tmp_path: Path) -> None:
    found = read(tmp_path, HEADER + ('"open,a\n' + MANY) * 30)
    assert (len(rows(found)), len(faults(found))) == (1500, 30)


def test_a_cell_of_many_lines_is_one_cell_up_to_a_bound(tmp_path: Path) -> None:
    long = "line, with, commas\n" * (MAX_RECORD_LINES - 1)
    assert rows(read(tmp_path, f'{HEADER}"{long}",a\nq,a\n')) == [[long, "a"], ["q", "a"]]
    found = read(tmp_path, f'{HEADER}"{long}{long}",a\nq,a\n')
    assert rows(found)[-1] == ["q", "a"]
    assert faults(found)[0][0] == 2


GOOD = "q1,a1\nq2,a2\nq3,a3\n"
MAILS = '"Dear Ann,\nit came, thanks\n\nBob",ok\n' * 3


@pytest.mark.parametrize(
    "broken",
    [
        '"Hello,\nfirst line\nDear team, thanks for nothing\nbye","answer"x\n',
        '"Hello\nhe said "hi" to me\nand no, nothing\nbye",a\n',
        '"Hello "Bob", nice\nto meet, you\nbye",a\n',
        'q0,"Dear customer\nwe are sorry, truly\nyours, Bob\n',
        'q0,"Dear customer\n\nwe are sorry\nIt came,late\nyours, Bob\n',
    ],
)
def test_what_may_be_the_text_of_a_broken_cell_is_never_a_row(tmp_path: Path, broken: str) -> None:
    for before, after in (("", ""), ("", GOOD), (GOOD, GOOD), (MAILS, GOOD + MAILS), (GOOD, MAILS)):
        found = read(tmp_path, HEADER + before + broken + after)
        assert rows(found) == rows(read(tmp_path, HEADER + before + after))
        assert [raw for _, raw in faults(found)] == [broken]


@pytest.mark.parametrize("line", ['a"b,"c', 'x","y', 'a,"c'])
def test_a_file_in_which_every_line_opens_a_quote_is_looked_through_once(
    tmp_path: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked = list[bytes]()

    def walk(data: bytes, delimiter: bytes, *, open_: bool = False) -> Any:
        walked.append(data)
        return _walk(data, delimiter, open_=open_)

    monkeypatch.setattr(cells, "_walk", walk)
    read(tmp_path, HEADER + f"{line}\n" * 3000)
    assert len(walked) < 5 * 3000


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.text(st.sampled_from('a",;\n\t é'), max_size=9), st.sampled_from(["a", "b"])), max_size=8),
    st.sampled_from(",;\t"),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_a_writer_wrote_is_read_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, told: list[tuple[str, str]], delimiter: str, quoting: int
) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=quoting).writerows([("input", "output"), *told])  # type: ignore[arg-type]
    assert rows(read(tmp_path_factory.mktemp("csv"), text.getvalue())) == [list(each) for each in told]


@settings(deadline=None)
@given(st.text(st.sampled_from('a",'), min_size=1, max_size=12))
def test_a_line_is_left_open_where_the_parser_would_read_on(text: str) -> None:
    read_on = next(csv.reader([text + "\n", "MARK\n"], delimiter=","), [""])[-1].endswith("MARK\n")
    walk = _walk(text.encode() + b"\n", b",")
    assert walk.open == read_on or walk.wrong
