"""Cluster, group, split and decontaminate as one invariant, with a proof that no edge crosses."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from libs.contracts.task import SplitSpec
from services.curation.compute.build import context_of
from services.curation.compute.pipeline import Version, curate
from services.curation.domain.grouping import groups_of, public_names
from services.curation.domain.split import SPLITS, TEST, TRAIN, VALIDATION, salt_of, split_of
from services.curation.domain.suite import Item, item_id_of
from services.curation.domain.synthesis import Lineage, places_of, row_of
from services.curation.tests.conftest import (
    SECRET,
    START,
    build_files,
    build_rows,
    context_for,
    row,
    tickets,
    train_group,
)


def places(version: Version) -> dict[str, str]:
    return {each.row_id: name for name in SPLITS for each in version.splits[name]}


def test_a_row_keeps_its_place_when_the_row_it_was_grouped_by_is_erased() -> None:
    text = "please order a new chair for the desk in the big hall near the window for {}"
    rows = [row(0, text.format("ann"), user="u0"), row(1, text.format("bob"), user="u1"), *tickets(60, 10)]
    first = build_rows(rows)
    assert first.groups["row-00000"] == first.groups["row-00001"]
    later = curate(rows, context_for(first.items, {"placed": first.placed, "erased": frozenset({"u0"})}))
    assert later.placed["row-00001"] == first.placed["row-00001"]
    assert later.ledger.removed["row-00000"] == "erased_subject"
    assert later.ledger.examples["erased_subject"] == []


def test_all_rows_of_a_customer_stand_on_one_side_where_the_policy_says_so() -> None:
    rows = [
        row(at, each.input, each.answer, user=f"user-{at % 30}", group=None) for at, each in enumerate(tickets(240))
    ]
    version = build_rows(rows, data={"curation": {"customers": True}})
    sides: dict[str | None, set[str]] = {}
    for name in SPLITS:
        for each in version.splits[name]:
            sides.setdefault(each.user, set()).add(name)
    assert all(len(found) == 1 for found in sides.values())
    told = version.facts["leakage"]["edges"]["customer"]
    assert told["edges"] > 100
    assert told["crossing"] == 0


def test_a_customer_with_many_conversations_stands_on_one_side_and_loses_no_row() -> None:
    rows = [
        replace(each, user=f"user-{at % 30}", group=f"talk-{at // 60}-{at % 30}")
        for at, each in enumerate(tickets(240))
    ]
    version = build_rows(rows, data={"curation": {"customers": True}})
    assert not {"withheld_customer", "withheld_group"} & set(version.ledger.reasons())
    talk = [replace(each, group="talk", user=f"user-{at % 2}") for at, each in enumerate(tickets(40))]
    assert set(groups_of(talk, lambda _at: frozenset(), [], {}, customers=True)) == {"u:user-0"}


def test_a_customer_of_validation_is_kept_out_of_training_though_no_test_row_has_one() -> None:
    rows = [replace(each, user=f"user-{at // 2}" if at < 60 else None) for at, each in enumerate(tickets(240))]
    first = build_rows(rows)
    test = {row.row_id for row in first.splits["test"]}
    rows = [replace(each, user=None) if each.row_id in test else each for each in rows]
    version = build_rows(rows, known={"placed": first.placed}, data={"curation": {"customers": True}})
    assert "withheld_customer" in version.ledger.reasons()
    assert not any(row.user for row in version.splits["test"])
    assert version.facts["leakage"]["edges"]["customer"]["crossing"] == 0


def test_a_frozen_item_is_still_of_its_customer_when_its_row_is_published_no_more() -> None:
    rows = tickets(120)
    first = build_rows(rows)
    found = places(first)
    judged = next(each for each in rows if found[each.row_id] == TEST)
    taught = [each for each in rows if found[each.row_id] == TRAIN][-1]
    told = {each.row_id: replace(each, user="ann") for each in (judged, taught)}
    rows = [judged, *(each for each in rows if each is not judged)]
    rows = [told.get(each.row_id, each) for each in rows]
    known = {"placed": first.placed}
    data: dict[str, Any] = {"max_rows": len(rows) - 1, "curation": {"customers": True}}
    later = curate(rows, context_for(first.items, known, data=data))
    assert later.ledger.removed[judged.row_id] == "over_max_rows"
    assert item_id_of(judged.row_id) in {each.item_id for each in later.items}
    assert later.ledger.removed[taught.row_id] == "withheld_customer"


def test_what_begins_after_the_temporal_holdout_is_test_for_ever() -> None:
    cut = START + timedelta(minutes=100)
    policy: dict[str, Any] = {"data": {"curation": {"holdout_after": cut.isoformat()}}}
    rows = [*tickets(140), row(150, tickets(1)[0].input + " once more", "late", group="own-0")]
    version = build_rows(rows, **policy)
    found = places(version)
    assert {found[f"row-{at:05d}"] for at in range(100, 140)} == {TEST}
    late = version.ledger.removed.get("row-00150", found.get("row-00150"))
    assert late in ("withheld_after_holdout", TEST)
    assert all(each.created_at < cut for each in version.splits[TRAIN])
    # Moved back, it moves no group that has its place: what would train is withheld.
    earlier = START + timedelta(minutes=60)
    policy = {"data": {"curation": {"holdout_after": earlier.isoformat()}}}
    again = curate(rows, context_for(version.items, {"placed": version.placed}, **policy))
    assert again.placed == version.placed
    assert all(each.created_at < earlier for each in again.splits[TRAIN])
    assert again.ledger.reasons()["withheld_after_holdout"] > 0


def test_a_file_that_validates_is_validation_whole_and_never_trains_whatever_its_rows_are_like() -> None:
    trained = tickets(120)
    judged = [row(200 + at, each.input, each.answer, source="val") for at, each in enumerate(tickets(40, 400))]
    again = [row(300 + at, f"{each.input} once more", "late", source="val") for at, each in enumerate(trained)]
    version = build_rows([*trained, *judged, *again], data={"curation": {"validation_sources": ["val"]}})
    found = places(version)
    assert {found[each.row_id] for each in judged} == {VALIDATION}
    assert not any(each.source == "val" for each in version.splits[TRAIN])
    taught = next(each for each in trained if found.get(each.row_id) == TRAIN)
    assert version.ledger.removed[f"row-{300 + trained.index(taught):05d}"] == "withheld_validation"
    later = curate(judged, context_for(version.items, {"placed": version.placed}))
    assert {places(later).get(each.row_id, VALIDATION) for each in judged} == {VALIDATION}


def test_rows_that_another_evaluation_suite_asks_are_withheld() -> None:
    rows = tickets(120)
    kept = build_rows(rows).splits[TRAIN][0]
    asked = Item("theirs", ({"role": "user", "content": kept.input.upper() + "!"},), "?", None, "elsewhere")
    version = curate(rows, context_for(known={"suites": [asked]}))
    assert version.ledger.removed[kept.row_id] == "withheld_exact"
    assert version.facts["leakage"]["suites"] == {"own": len(version.items), "others": 1}


def test_synthetic_rows_stand_with_their_seed_and_never_outside_training() -> None:
    rows = tickets(120)
    first = build_rows(rows)
    taught, judged = first.splits[TRAIN][0], first.splits[TEST][0]

    def synthetic(name: str, text: str, group: str) -> Any:
        lineage = Lineage("m", "evolve", "sha256:0", (taught.row_id,), group).as_json()
        told = {"row_id": name, "input": text, "answer": "a", "category": "c0", "lineage": lineage}
        return row_of(told, public_names(SECRET, "default"))

    made = [
        synthetic("syn-1", "quite another matter about purple elephants on stage", taught.split_group),
        synthetic("syn-2", "something else about green camels in a shop window", judged.split_group),
        synthetic("syn-3", judged.input, taught.split_group),
    ]
    placed = {**first.placed, **places_of(made, first.placed)}
    version = curate([*rows, *made], context_for(first.items, {"placed": placed}))
    found = places(version)
    assert found["syn-1"] == TRAIN
    assert version.ledger.removed["syn-2"] == "synthetic_held_out"
    assert version.ledger.removed["syn-3"] == "withheld_exact"
    assert judged.row_id in found


def test_what_a_subject_asked_makes_no_item_once_he_is_erased_whoever_judged_it(tmp_path: Path) -> None:
    rows = [row(0, "q", user="expert", subject="ann"), row(1, "p", user="ann"), row(2, "r", user="expert")]
    build_files(tmp_path / "first", rows)
    request = {
        "tenant": "default", "secret": SECRET.hex(), "spec": {"task": "triage", "base": "b"}, "fractions": None,
        "segments": [(1, str(tmp_path / "first" / "s.parquet"))], "suite": None, "erased": ["ann"],
    }  # fmt: skip
    _, context = context_of(request)
    assert context.erased_items == {item_id_of("row-00000"), item_id_of("row-00001")}


def test_what_a_row_asked_makes_no_item_once_its_consent_is_taken_back(tmp_path: Path) -> None:
    build_files(tmp_path / "first", [row(0, "q", consent=False), row(1, "p", consent=True), row(2, "r")])
    request = {
        "tenant": "default", "secret": SECRET.hex(), "spec": {"task": "triage", "base": "b"}, "fractions": None,
        "segments": [(1, str(tmp_path / "first" / "s.parquet"))], "suite": None,
    }  # fmt: skip
    _, context = context_of(request)
    assert context.erased_items == {item_id_of("row-00000")}


def test_items_of_an_erased_subject_leave_the_frozen_suite() -> None:
    first = build_rows(tickets(120))
    gone = first.items[0]
    (name,) = [each.row_id for each in first.splits[TEST] if item_id_of(each.row_id) == gone.item_id]
    later = curate(tickets(120), context_for(first.items, {"erased_items": frozenset({item_id_of(name)})}))
    assert later.facts["erased_items"] == 1
    assert gone.item_id not in {item.item_id for item in later.items}


def test_a_row_that_rewords_another_suites_item_is_withheld_and_our_own_is_told_of() -> None:
    said = "a farmer named Quentin sells 17 baskets of quinces for 23 florins each at the market of Utrecht"
    asked = (
        "If each basket costs 23 florins, what does Quentin the farmer earn at Utrecht market with 17 quince baskets?"
    )
    theirs = Item("theirs", ({"role": "user", "content": asked},), "391", None, "elsewhere")
    rows = [*tickets(120), row(300, said, "391 florins", group=train_group())]
    version = curate(rows, context_for(known={"suites": [theirs]}))
    assert version.ledger.removed["row-00300"] == "withheld_rephrased"
    told = version.facts["rephrased"]
    assert (told["others"]["withheld"], told["own"]["withheld"]) == (True, False)
    assert told["others"]["recall"]["found"] == told["others"]["recall"]["planted"] == 1


def test_a_conversation_that_begins_like_another_group_belongs_to_it_for_good() -> None:
    text = "please order a new chair for the desk in the big hall near the window for {}"
    rows = [row(0, text.format("ann"), group="a"), row(1, text.format("bob"), group="b")]
    rows.append(row(2, "and a lamp with a long green cord", group="b"))
    version = build_rows([*rows, *tickets(40, 10)])
    assert {version.groups[f"row-{at:05d}"] for at in range(3)} == {public_names(SECRET, "default")("g:a")}
    later = curate([rows[1], rows[2]], context_for(known={"placed": version.placed}, data={"split": ALL_TRAIN}))
    assert later.groups["row-00002"] == version.groups["row-00000"]


ALL_TRAIN = {"train": 0.999, "validation": 0.0, "test": 0.001}


@pytest.mark.parametrize("answer", ["yes", "no"])
def test_a_row_neither_merges_nor_votes_across_splits(answer: str) -> None:
    salt = salt_of("default", "triage")
    test = next(name for name in map(str, range(99)) if split_of(salt, f"g:{name}", SplitSpec()) == TEST)
    text = "does my cat eat tuna fish only"
    rows = [
        row(300, "the green hill railway is late", group=test),
        row(301, text, answer, group=train_group()), row(302, text, answer, group=train_group()),
        row(303, text, "yes", group=test),
    ]  # fmt: skip
    version = build_rows([*tickets(120), *rows])
    assert places(version)["row-00303"] == TEST
    assert version.ledger.removed["row-00301"] == "withheld_exact"
    assert version.ledger.removed["row-00302"] == "exact_duplicate"
    assert item_id_of("row-00303") in {each.item_id for each in version.items}
