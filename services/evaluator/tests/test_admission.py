"""A judge counts as far as experts' votes let it, and which votes those were can be looked up."""

import random
from dataclasses import replace

import pytest

from libs.contracts.campaign import audit
from services.evaluator.domain.admission import recheck, standing_with
from services.evaluator.domain.campaign import Design
from services.evaluator.domain.campaign_record import Everything, record_of, troubles_of
from services.evaluator.tests.test_campaign_domain import Table, expert, hash_of


def voted(good: float, tilt: float = 0.0) -> Everything:
    """A campaign whose judge says what experts do with probability `good`, else prefers the treatment by `tilt`."""
    table = Table(Design(seed=2, max_items=150, overlap=0.0), count=150)
    table.everybody(1, expert)
    rng = random.Random(4)
    said = {
        item.item_id: float(hash_of(item.item_id) % 10 < 7) if rng.random() < good else float(rng.random() < 0.5 + tilt)
        for item in table.plan.items
    }
    return Everything(
        table.desk.campaign, table.plan.items, table.plan.slots, tuple(table.desk.ballots), tuple(table.hashes),
        {"liked": said},
    )  # fmt: skip


def told(whole: Everything, kind: str = "judge_pairwise") -> dict[str, object]:
    found = standing_with(whole, "liked", kind)
    return {"doubt": found.doubt, "tilt": found.tilt, "seen": found.seen}


def test_a_judge_that_experts_bear_out_is_admitted_with_what_it_may_favour() -> None:
    fair, biased, useless = voted(0.95), voted(0.7, tilt=0.5), voted(0.0)
    assert standing_with(fair, "liked", "judge_pairwise").doubt is None
    tilted = standing_with(biased, "liked", "judge_pairwise")
    assert tilted.doubt is None
    assert tilted.tilt > standing_with(fair, "liked", "judge_pairwise").tilt
    # Half a difference of grades is a preference.
    assert standing_with(biased, "liked", "judge").tilt == pytest.approx(2.0 * tilted.tilt)
    assert "not shown to exceed" in (standing_with(useless, "liked", "judge_pairwise").doubt or "")
    assert "holds no judgements by 'other'" in (standing_with(fair, "other", "judge_pairwise").doubt or "")


def test_how_a_judge_stood_is_computed_again_from_the_votes_cast_by_then() -> None:
    whole = voted(0.95)
    early = replace(
        whole, campaign=replace(whole.campaign, head=whole.hashes[59]), ballots=whole.ballots[:60],
        hashes=whole.hashes[:60],
    )  # fmt: skip
    then = told(early)
    assert then != told(whole)
    assert recheck(then, whole, "liked", "judge_pairwise") == []
    assert recheck(told(whole), whole, "liked", "judge_pairwise") == []
    forged = {**then, "tilt": 0.0}
    assert "may favour an arm by 0.0 as published" in recheck(forged, whole, "liked", "judge_pairwise")[0]
    forged = {**told(voted(0.0)), "doubt": None, "seen": then["seen"]}
    assert recheck(forged, whole, "liked", "judge_pairwise") != []
    forged = {**then, "seen": {**early_seen(then), "head": "sha256:nowhere"}}
    assert "does not hold the votes" in recheck(forged, whole, "liked", "judge_pairwise")[0]


def early_seen(document: dict[str, object]) -> dict[str, object]:
    seen = document["seen"]
    assert isinstance(seen, dict)
    return seen


def test_judgements_that_came_later_leave_nothing_to_compare() -> None:
    whole = voted(0.95)
    half = dict(list(whole.judgements["liked"].items())[:70])
    then = told(replace(whole, judgements={"liked": half}))
    assert recheck(then, whole, "liked", "judge_pairwise") == []


def test_the_record_of_a_campaign_is_what_anybody_audits() -> None:
    whole = voted(0.9)
    assert audit(record_of(whole)) == []
    assert troubles_of(whole) == []
    first = whole.items[0]
    other = replace(first, treatment="something else")
    assert "not those that were committed to" in troubles_of(replace(whole, items=(other, *whole.items[1:])))[0]
