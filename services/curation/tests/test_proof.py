"""The proof that no edge crosses splits: of every kind, over what is published, and loud where one does."""

from dataclasses import replace
from itertools import combinations
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.contracts.errors import DataLoss
from services.curation.compute import overlap
from services.curation.compute.edges import proof_of
from services.curation.compute.pipeline import Version, curate
from services.curation.compute.semantic import StaticEmbeddings
from services.curation.domain.rows import Row, asked
from services.curation.domain.split import SPLITS, TEST, TRAIN
from services.curation.domain.suite import Item
from services.curation.domain.text import jaccard, masked, words
from services.curation.tests.conftest import build_rows, context_for, row, spec_of, tickets, train_group

ALL_ON: dict[str, Any] = {"data": {"duplicates": {"semantic": 0.9}, "curation": {"customers": True}}}
WORDS = ("printer", "router", "burns", "stops", "again", "today", "4711", "0815", "77", "office", "a@b.org", "key")


def published(version: Version) -> list[Row]:
    return [each for name in SPLITS for each in version.splits[name]]


def test_the_manifest_names_every_kind_with_its_method_and_threshold_and_no_edge_crosses() -> None:
    proof = build_rows(tickets(200), **ALL_ON).facts["leakage"]
    kinds = ["group", "conversation", "customer", "exact", "template", "near", "near_masked", "semantic"]
    assert list(proof["edges"]) == kinds
    assert all(each["crossing"] == 0 and each["method"] for each in proof["edges"].values())
    assert [proof["edges"][kind]["threshold"] for kind in kinds] == [1, 1, 1, 1, 1, 0.7, 0.7, 0.9]
    assert proof["left_out"] == {}
    said = build_rows(tickets(60)).facts["leakage"]
    assert set(said["left_out"]) == {"customer", "semantic"}
    assert not {"customer", "semantic"} & set(said["edges"])


def test_edges_within_a_split_are_counted() -> None:
    order = [row(at, f"please cancel the order {at * 7919} for me today", f"done {at}") for at in range(20)]
    told = build_rows([*order, *tickets(60, 100)]).facts["leakage"]["edges"]
    assert told["template"]["edges"] >= 190
    assert told["near"]["edges"] > 100
    assert told["near_masked"]["edges"] > 100


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("exact", {"input": "Refunds for 17 broken bottles were promised!"}),
        ("template", {"input": "refunds for 18 broken bottles were promised"}),
        ("near", {"input": "refunds for 17 broken bottles were promised here"}),
        ("semantic", {"input": "promise a refund for the broken bottle"}),
        ("conversation", {"input": "hello", "conversation": "g:talk"}),
        ("customer", {"input": "hello", "user": "ann"}),
    ],
)
def test_an_edge_of_any_kind_that_crosses_fails_the_build(kind: str, change: dict[str, Any]) -> None:
    text = "refunds for 17 broken bottles were promised"
    held = row(0, text, conversation="g:talk", user="ann", split=TEST, split_group="g:talk")
    apart: dict[str, Any] = {"conversation": None, "user": None, **change}
    leaked = replace(held, row_id="leaked", split=TRAIN, split_group="other", **apart)
    spec = spec_of(data={"duplicates": {"semantic": 0.6}, "curation": {"customers": True}})
    embeddings = StaticEmbeddings.fit([asked(each) for each in (held, leaked, *tickets(40))])
    with pytest.raises(DataLoss, match=f"1 edges of kind {kind} cross test-train"):
        proof_of([held, leaked], [], {}, spec, 0.7, embeddings)
    item = Item("i", ({"role": "user", "content": text},), "a", None, "g:talk")
    with pytest.raises(DataLoss, match=f"1 edges of kind {kind} cross test-train"):
        proof_of([leaked], [item], {"i": held}, spec, 0.7, embeddings)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join), max_size=20),
    st.sampled_from([0.3, 0.5, 0.7, 0.8, 1.0]),
    st.booleans(),
    st.sampled_from([0, 1 << 40]),
)
def test_no_pair_that_reaches_the_threshold_is_missed(
    texts: list[str], threshold: float, mask: bool, spared: int
) -> None:
    read = [masked(words(text)) if mask else frozenset(words(text)) for text in texts]
    half = len(texts) // 2
    similarity = {
        (left, right): jaccard(read[left], read[half + right])
        for left in range(half)
        for right in range(len(texts) - half)
    }
    wanted = {pair: found for pair, found in similarity.items() if found >= threshold}
    best: dict[int, tuple[int, float]] = {}
    for (left, right), found in sorted(wanted.items()):
        if found > best.get(left, (0, 0.0))[1]:
            best[left] = right, found
    ours, theirs = np.arange(half), np.arange(half, len(texts))
    with patch.object(overlap, "_SPARED", spared):
        alike = overlap.Overlap(texts, threshold, masked=mask)
        assert alike.count(ours, theirs) == len(wanted)
        told = alike.best(ours, theirs)
    assert {at: other for at, (other, _) in told.items()} == {at: other for at, (other, _) in best.items()}
    assert [told[at][1] for at in best] == pytest.approx([found for _, found in best.values()])


def test_rows_of_one_template_are_counted_and_not_compared_pair_by_pair() -> None:
    drawn = np.random.default_rng(1)
    frame = " ".join(f"frame{at}" for at in range(20))
    texts = [f"{frame} " + " ".join(f"slot{at}" for at in drawn.permutation(60)[:9]) for _ in range(400)]
    alike = overlap.Overlap(texts, 0.7)
    with patch.object(overlap, "_PAIRS", 0):
        assert 0 < alike.count(np.arange(200), np.arange(200, 400)) < 2_000


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_comes_in_no_two_rows_of_two_splits_are_alike(data: st.DataObject) -> None:
    text = st.lists(st.sampled_from(WORDS), min_size=1, max_size=7).map(" ".join)
    pairs = data.draw(st.lists(st.tuples(text, st.sampled_from([None, None, "g1", "g2", "g3"])), min_size=5))
    rows = [row(at, said, f"answer {at % 3}", group=own) for at, (said, own) in enumerate(pairs)]
    first = build_rows(rows[: len(rows) // 2])
    later = build_rows(rows, suite=first.items, data={"duplicates": {"semantic": 0.8}})
    held = [(TEST, item.asked) for item in later.items]
    sides = [*((each.split, asked(each)) for each in published(later)), *held]
    for (left, one), (right, other) in combinations(sides, 2):
        if left != right:
            said = [words(one), words(other)]
            assert jaccard(*map(frozenset, said)) < 0.7
            assert jaccard(*map(masked, said)) < 0.7


def test_what_is_like_a_held_out_row_as_far_as_grouping_goes_is_withheld() -> None:
    rows = tickets(100)
    held = build_rows(rows).splits[TEST][0]
    said = held.input.split()
    longer = " ".join([*said, "thanks", "a", "lot"])
    assert 0.7 <= jaccard(frozenset(said), frozenset(longer.split())) < 0.8
    founder = row(190, "a crocodile sleeps under the piano of my aunt", "nothing", group=train_group())
    version = build_rows([*rows, founder, row(200, longer, "b", group=train_group())])
    assert version.ledger.removed["row-00200"] == "withheld_near"
    strict = build_rows(rows, data={"duplicates": {"threshold": 0.6}})
    assert strict.facts["leakage"]["edges"]["near"]["threshold"] == 0.6


def test_rows_that_say_the_same_in_other_words_are_one_group_and_withheld_where_they_were_not() -> None:
    pairs = [
        ("cancelling my subscriptions", "please cancel the subscription"),
        ("refunds for broken bottles were promised", "promise a refund for the broken bottle"),
        ("passwords expired and accounts locked", "password expires, account locks"),
        ("upgrading licences fails with errors", "an upgrade of licence failed with error"),
    ]
    rows = [row(2 * at + side, pair[side], f"a{at}") for at, pair in enumerate(pairs) for side in (0, 1)]
    rows += tickets(60, 100)
    policy: dict[str, Any] = {"data": {"duplicates": {"semantic": 0.55}}}
    groups = build_rows(rows, **policy).groups
    together = [groups[rows[2 * at].row_id] == groups[rows[2 * at + 1].row_id] for at in range(len(pairs))]
    apart = build_rows(rows)
    assert all(together)
    assert len({apart.groups[each.row_id] for each in rows[: 2 * len(pairs)]}) > len(pairs)
    later = curate(rows, context_for(apart.items, {"placed": apart.placed}, **policy))
    assert later.ledger.reasons()["withheld_semantic"] > 0
    assert later.facts["leakage"]["edges"]["semantic"]["crossing"] == 0
    withheld = later.facts["leakage"]["withheld"].values()
    assert sum(each.get("withheld_semantic", 0) for each in withheld) == later.ledger.reasons()["withheld_semantic"]
