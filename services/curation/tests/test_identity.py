"""Which rows ask and teach the same."""

import json
from typing import Any

import pytest

from services.curation.domain.split import TRAIN
from services.curation.domain.text import operators, spelling_of
from services.curation.tests.conftest import ALL_TRAIN, build_rows, row

TOOL = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
DPO = {"recipe": {"method": "dpo"}}
ASKED = "where is the parcel that I sent to my sister last week"


def called(city: str, call_id: str = "c1") -> str:
    call = {"id": call_id, "type": "function", "function": {"name": "look_up", "arguments": json.dumps({"city": city})}}
    return json.dumps(
        [
            {"role": "user", "content": "look"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call_id, "content": "found"},
        ]
    )


def kept(*rows: Any, **fields: Any) -> list[str]:
    version = build_rows(list(rows), data=ALL_TRAIN, **fields)
    return [each.row_id for each in version.splits[TRAIN]]


def test_what_frames_a_question_is_part_of_it() -> None:
    others: list[dict[str, Any]] = [
        {}, {"system": "Be rude."}, {"tools": json.dumps(TOOL)}, {"history": called("Bonn")},
        {"history": called("Rome")}, {"history": called("Rome").replace('"tool", ', '"tool", "name": "other", ')},
    ]  # fmt: skip
    # Neither merged where the answers are the same, nor a conflict where they are not.
    assert len(kept(*(row(at, ASKED, "soon", **fields) for at, fields in enumerate(others)))) == len(others)
    assert len(kept(*(row(at, ASKED, f"answer {at}", **fields) for at, fields in enumerate(others)))) == len(others)


def test_who_asks_is_part_of_the_question() -> None:
    def by(**told: str) -> str:
        return json.dumps({"role": "user", "content": ASKED, **told})

    asked: list[dict[str, Any]] = [
        {}, {"input_as": by(name="bob")}, {"input_as": by(name="ann")}, {"input_as": by(role="tool")},
    ]  # fmt: skip
    assert len(kept(*(row(at, ASKED, f"answer {at}", **fields) for at, fields in enumerate(asked)))) == len(asked)
    parts = json.dumps({"role": "user", "content": [{"type": "text", "text": ASKED}]})
    assert kept(row(0, ASKED), row(1, ASKED, input_as=parts)) == ["row-00000"]


def test_what_says_the_same_of_the_frame_is_the_same() -> None:
    assert kept(row(0, ASKED, system="Be kind. Be brief."), row(1, ASKED, system="Be kind.  Be brief.")) == [
        "row-00000"
    ]
    assert kept(row(0, ASKED), row(1, ASKED, system="Be kind."), system="Be kind.") == ["row-00000"]
    assert kept(row(0, ASKED, history=called("Bonn")), row(1, ASKED, history=called("Bonn", "c2"))) == ["row-00000"]
    spaced = json.dumps(TOOL, indent=1)
    assert kept(row(0, ASKED, tools=json.dumps(TOOL)), row(1, ASKED, tools=spaced)) == ["row-00000"]


def test_pairs_are_the_same_where_both_answers_are() -> None:
    pairs = [row(0, ASKED, "soon", rejected="no idea"), row(1, ASKED, "soon", rejected="go away")]
    assert kept(*pairs, **DPO) == ["row-00000", "row-00001"]
    assert kept(*pairs) == ["row-00000"], "what lost teaches nothing where answers are learnt"
    again = row(1, ASKED, "soon", rejected="no  idea")
    assert kept(pairs[0], again, **DPO) == ["row-00000"]


def test_only_the_same_pair_the_other_way_round_contradicts_a_pair() -> None:
    pair = row(0, ASKED, "soon", rejected="no idea")
    other = row(1, ASKED, "tomorrow", rejected="go away")
    turned = row(2, ASKED, "no idea", rejected="soon")
    assert kept(pair, other, **DPO) == ["row-00000", "row-00001"]
    assert kept(pair, other, turned, **DPO) == ["row-00001"], "nobody knows which of the two is better"
    assert kept(pair, row(3, ASKED, "soon", rejected="no idea", stands_for=2), turned, **DPO) == ["row-00000"]
    assert kept(pair, other) == [], "where answers are learnt these are two"


def test_near_duplicates_are_looked_for_within_one_frame() -> None:
    like = ASKED + " please"
    long = f"{ASKED}, it was a box of books and it has not arrived at her house, she has waited for it since monday"
    assert kept(row(0, long), row(1, long + " please")) == ["row-00000"]
    assert kept(row(0, long), row(1, long + " please", system="Be rude.")) == ["row-00000", "row-00001"]
    assert kept(row(0, like, rejected="x"), row(1, ASKED, rejected="y"), **DPO) == ["row-00000", "row-00001"]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("How do I sort a list in C++?", "How do I sort a list in C#?"),
        ("How do I sort a list in C?", "How do I sort a list in C#?"),
        ("What is 7 + 8?", "What is 7 * 8?"),
        ("What is 7 - 8?", "What is 7 + 8?"),
        ("is it true that a < b", "is it true that a > b"),
        ("What is 5!?", "What is 5?"),
        ("Is this TV 40' wide?", 'Is this TV 40" wide?'),
    ],
)
def test_a_sign_may_make_another_question(left: str, right: str) -> None:
    assert kept(row(0, left, "one"), row(1, right, "another")) == ["row-00000", "row-00001"], "no conflict"
    assert spelling_of(left) != spelling_of(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("in which program do I quit an app of C++?", "in which program do I quit an app of C#?"),
        ("is it true for all of them that a < b", "is it true for all of them that a > b"),
    ],
)
def test_an_operator_keeps_near_duplicates_apart_where_the_guard_looks(left: str, right: str) -> None:
    rows = [row(0, left, "no"), row(1, right, "no")]
    assert kept(*rows) == ["row-00000", "row-00001"]
    data = {**ALL_TRAIN, "duplicates": {"guard": False}}
    assert [each.row_id for each in build_rows(rows, data=data).splits[TRAIN]] == ["row-00000"]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Where is it?", "\u201cwhere  is\u200b it!\u201d"),
        ("\u00bfD\u00f3nde est\u00e1?", "do\u0301nde esta\u0301"),
        ("\uff21\uff22\uff23\uff1f", "abc"),
        ("it's on\u2014line", "it\u2019s on-line."),
    ],
)
def test_case_blanks_typography_and_the_end_of_a_sentence_make_no_other_question(left: str, right: str) -> None:
    assert spelling_of(left) == spelling_of(right)
    assert spelling_of("?!") == "?!"


@pytest.mark.parametrize(
    ("text", "signs"),
    [
        ("a<b and c >= d, in C++ or C#?", "< >= ++ #"),
        ("a *bold* word, and/or a well-known - dash", "/"),
        ("7 - 8 of 9\u00d79", "- \u00d7"),
        ("#1 of 5% and a.b", ""),
    ],
)
def test_operators_are_the_signs_that_stand_as_words_do(text: str, signs: str) -> None:
    assert operators(text) == signs


def test_a_long_run_of_signs_costs_no_more_than_its_length() -> None:
    # Read back and forth, as a pattern at the end would be, this takes minutes.
    for sign in '!?"':
        text = f"why {sign * 200_000} so?"
        assert spelling_of(text) == text.rstrip("?")
