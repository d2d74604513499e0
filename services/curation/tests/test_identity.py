"""Which rows ask and teach the same."""

import json
from typing import Any

from services.curation.domain.split import TRAIN
from services.curation.tests.conftest import build_rows, row

ALL_TRAIN = {"split": {"train": 1.0, "validation": 0.0, "test": 0.0}}
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
