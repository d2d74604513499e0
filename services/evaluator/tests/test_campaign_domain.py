"""Blind campaigns without any process: the order, the desk, the chain and what votes show."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from libs.contracts.campaign import Ballot, Slot, audit, commitment, seal
from libs.contracts.errors import AlreadyExists, FailedPrecondition, InvalidInput
from libs.contracts.inference import Message
from services.evaluator.domain.campaign import OPEN, Campaign, Candidate, Design, Plan, shown, texts
from services.evaluator.domain.campaign_desk import Cast, Desk, Reservation
from services.evaluator.domain.campaign_plan import draw
from services.evaluator.domain.campaign_source import judgements_of
from services.evaluator.domain.campaign_standing import standing_of

NOW = 1_800_000_000.0


def candidates(count: int = 120, alike: int = 0) -> list[Candidate]:
    return [
        Candidate(
            f"item-{n}", f"c{n % 3}", f"g{n}", (Message(role="user", content=f"question {n}"),), f"treatment {n}",
            f"treatment {n}" if n < alike else f"control {n}",
        )
        for n in range(count)
    ]  # fmt: skip


def campaign(plan: Plan, **changes: Any) -> Campaign:
    committed = commitment("nonce", plan.slots)
    made = Campaign(
        "campaign-1", "default", "triage", "report-1", "fine_tuned", "base", "which?", "", OPEN, committed, "nonce",
        committed, Design(seed=1), "ada", NOW,
    )  # fmt: skip
    return replace(made, **changes)


class Table:
    """Reviewers at a desk, without a database."""

    def __init__(self, design: Design, count: int = 120, alike: int = 0) -> None:
        self.plan = draw(candidates(count, alike), design)
        self.desk = Desk(campaign(self.plan, design=design), self.plan.slots, [], {})
        self.now = NOW
        self.hashes: list[str] = []

    def take(self, reviewer: str) -> Slot | None:
        slot = self.desk.held(reviewer, self.now) or self.desk.next_slot(reviewer, self.now)
        if slot is not None:
            mine = Reservation(slot.number, reviewer, self.desk.ticket(slot, reviewer), self.now + 600)
            self.desk = replace(self.desk, reservations={**self.desk.reservations, slot.number: mine})
        return slot

    def append(self, ballot: Ballot) -> Ballot:
        head = seal(self.desk.campaign.head, ballot)
        self.hashes.append(head)
        held = {slot: each for slot, each in self.desk.reservations.items() if slot != ballot.slot}
        self.desk = replace(
            self.desk,
            ballots=[*self.desk.ballots, ballot],
            campaign=replace(self.desk.campaign, head=head),
            reservations=held,
        )
        self.now += 1
        return ballot

    def vote(self, reviewer: str, choice: str) -> Ballot:
        slot = self.take(reviewer)
        assert slot is not None
        ticket = self.desk.reservations[slot.number].ticket
        return self.append(self.desk.cast(Cast(reviewer, ticket, choice), self.now)[0])

    def everybody(self, reviewers: int, choose: Callable[[Slot], str]) -> None:
        """Vote until nothing is left; `choose` picks a side from the slot."""
        names = [f"reviewer-{n}" for n in range(reviewers)]
        while any(self.take(name) for name in names):
            for name in names:
                slot = self.take(name)
                if slot is not None:
                    self.vote(name, choose(slot))

    def standing(self) -> dict[str, Any]:
        return standing_of(self.desk.campaign, self.plan.items, self.plan.slots, self.desk.ballots, {})

    def document(self) -> dict[str, Any]:
        return {
            "commitment": self.desk.campaign.commitment,
            "nonce": "nonce",
            "head": self.desk.campaign.head,
            "slots": [slot.model_dump() for slot in self.plan.slots],
            "ballots": [
                {**ballot.model_dump(), "hash": digest}
                for ballot, digest in zip(self.desk.ballots, self.hashes, strict=True)
            ],
        }


def judged(table: Table, good: float, seed: int = 4) -> dict[str, dict[str, Any]]:
    """The judges' part of the standing, of a judge that says what an expert would with probability `good`."""
    rng = random.Random(seed)
    truth = {item.item_id: float(hash_of(item.item_id) % 10 < 7) for item in table.plan.items}
    given = {item: value if rng.random() < good else float(rng.random() < 0.9) for item, value in truth.items()}
    told = standing_of(table.desk.campaign, table.plan.items, table.plan.slots, table.desk.ballots, {"judge-1": given})
    judges: dict[str, dict[str, Any]] = told["judges"]
    return judges


def hash_of(item_id: str) -> int:
    return int(item_id.split("-")[1]) * 7919 % 1000


def expert(slot: Slot) -> str:
    other = {"left": "right", "right": "left"}
    return slot.treatment if hash_of(slot.item_id) % 10 < 7 else other[slot.treatment]


def for_treatment(slot: Slot) -> str:
    return slot.treatment


def test_sides_are_balanced_in_every_stretch_of_the_order_and_category() -> None:
    plan = draw(candidates(300), Design(seed=7, max_items=300, overlap=0.0))
    category = {item.item_id: item.category for item in plan.items}
    lead: Counter[str] = Counter()
    for slot in plan.slots:
        if slot.kind == "pair":
            lead[category[slot.item_id]] += 1 if slot.treatment == "left" else -1
            assert abs(lead[category[slot.item_id]]) <= 2
    assert {item.item_id for item in plan.items} == {f"item-{n}" for n in range(300)}


def test_the_presentations_of_an_overlapping_item_alternate_and_repeats_are_swapped() -> None:
    plan = draw(candidates(200), Design(seed=5, overlap=0.2, raters=3, swapped=0.1))
    by_item: dict[str, list[Slot]] = {}
    for slot in plan.slots:
        if slot.kind == "pair":
            by_item.setdefault(slot.item_id, []).append(slot)
    assert Counter(len(slots) for slots in by_item.values()) == {1: 160, 3: 40}
    assert all(abs(sum(1 if s.treatment == "left" else -1 for s in slots)) == 1 for slots in by_item.values())
    numbers = {slot.number: slot for slot in plan.slots}
    swaps = [slot for slot in plan.slots if slot.kind == "swap"]
    assert len(swaps) == 20
    for swap in swaps:
        first = numbers[swap.repeats or 0]
        assert (first.item_id, first.left_digest) == (swap.item_id, swap.right_digest)
        assert first.number < swap.number


def test_a_draw_is_a_function_of_its_seed_and_samples_categories_in_proportion() -> None:
    design = Design(seed=3, max_items=60)
    assert draw(candidates(), design) == draw(list(reversed(candidates())), design)
    assert draw(candidates(), design) != draw(candidates(), replace(design, seed=4))
    asked = [item for item in draw(candidates(), design).items if item.wanted]
    assert Counter(item.category for item in asked) == {"c0": 20, "c1": 20, "c2": 20}


def test_what_both_arms_answered_alike_is_not_asked_and_serves_as_the_same_arm_pair() -> None:
    plan = draw(candidates(100, alike=40), Design(seed=1))
    asked = {slot.item_id for slot in plan.slots if slot.kind == "pair"}
    assert len(asked) == 60
    same = [slot for slot in plan.slots if slot.kind == "same"]
    assert len(same) == 3
    assert all(slot.left_digest == slot.right_digest and slot.item_id not in asked for slot in same)
    with pytest.raises(InvalidInput, match="nothing to compare"):
        draw(candidates(10, alike=10), Design(seed=1))


def test_which_arm_is_which_changes_nothing_but_the_sides_of_the_texts() -> None:
    exchanged = [replace(each, treatment=each.control, control=each.treatment) for each in candidates()]
    one, two = draw(candidates(), Design(seed=9)), draw(exchanged, Design(seed=9))
    items_one = {item.item_id: item for item in one.items}
    items_two = {item.item_id: item for item in two.items}
    for left, right in zip(one.slots, two.slots, strict=True):
        hide = {"left_digest", "right_digest"}
        assert left.model_dump(exclude=hide) == right.model_dump(exclude=hide)
        if left.kind != "same":
            assert texts(items_one[left.item_id], left) == texts(items_two[right.item_id], right)[::-1]


def test_names_of_versions_and_blanks_at_the_ends_are_not_shown() -> None:
    assert shown("  I am support-triage@12, hello\r\n\n") == "I am [model], hello"
    assert shown("write to ada@example.org") == "write to ada@example.org"


def test_nobody_sees_an_item_twice_but_in_its_swapped_repeat() -> None:
    table = Table(Design(seed=2, overlap=0.5, raters=3, swapped=0.2), count=60)
    table.everybody(3, for_treatment)
    kinds = {slot.number: slot.kind for slot in table.plan.slots}
    seen = Counter((b.reviewer, b.item_id) for b in table.desk.ballots if kinds[b.slot] != "swap")
    assert max(seen.values()) == 1
    assert table.desk.items_done() == 60
    by_slot = {ballot.slot: ballot for ballot in table.desk.ballots}
    repeats = [(slot, by_slot[slot.number]) for slot in table.plan.slots if slot.kind == "swap"]
    assert repeats
    assert all(by_slot[slot.repeats or 0].reviewer == ballot.reviewer for slot, ballot in repeats)


def test_a_pair_held_by_one_reviewer_goes_to_another_only_when_its_time_ran_out() -> None:
    table = Table(Design(seed=2))
    mine = table.take("ada")
    assert mine is not None
    assert table.take("ada") == mine
    other = table.take("bob")
    assert other != mine
    ticket = table.desk.reservations[mine.number].ticket
    table.now += 601
    assert table.take("cem") == mine
    with pytest.raises(FailedPrecondition, match="somebody else"):
        table.desk.cast(Cast("ada", ticket, "left"), table.now)


def test_the_same_vote_again_changes_nothing_and_another_is_refused() -> None:
    table = Table(Design(seed=2))
    slot = table.take("ada")
    assert slot is not None
    cast = Cast("ada", table.desk.reservations[slot.number].ticket, "left")
    first = table.append(table.desk.cast(cast, table.now)[0])
    assert table.desk.cast(cast, table.now) == (first, False)
    with pytest.raises(AlreadyExists, match="undo it first"):
        table.desk.cast(replace(cast, choice="right"), table.now)
    with pytest.raises(InvalidInput, match="none of"):
        table.desk.cast(replace(cast, choice="treatment"), table.now)


def test_an_undo_is_an_entry_and_frees_the_pair_for_the_same_reviewer() -> None:
    table = Table(Design(seed=2))
    first = table.vote("ada", "left")
    entry = table.append(table.desk.undo("ada", table.now))
    assert (entry.choice, entry.undoes) == ("undo", first.number)
    assert table.desk.standing_votes() == []
    slot = table.take("ada")
    assert slot is not None
    assert slot.number == first.slot
    with pytest.raises(FailedPrecondition, match="no vote of yours"):
        table.desk.undo("bob", table.now)
    table.vote("ada", "right")
    with pytest.raises(FailedPrecondition, match="too old"):
        table.desk.undo("ada", table.now + 601)


def test_a_skipped_pair_goes_to_others() -> None:
    table = Table(Design(seed=2))
    skipped = table.vote("ada", "skip")
    following = table.take("ada")
    assert following is not None
    assert following.number != skipped.slot
    other = table.take("bob")
    assert other is not None
    assert other.number == skipped.slot


def test_a_campaign_that_was_tampered_with_is_found_out() -> None:
    table = Table(Design(seed=2), count=40)
    for number in range(12):
        table.vote(f"r{number % 2}", ("left", "right", "tie")[number % 3])
    table.append(table.desk.undo("r1", table.now))
    table.vote("r1", "both_bad")
    assert audit(table.document()) == []
    exchanged = table.document()
    exchanged["slots"][0]["treatment"] = {"left": "right", "right": "left"}[exchanged["slots"][0]["treatment"]]
    assert "committed to" in audit(exchanged)[0]
    changed = table.document()
    changed["ballots"][4]["choice"] = "left" if changed["ballots"][4]["choice"] != "left" else "right"
    assert "ballot 5: the chain is broken" in audit(changed)
    shorter = table.document()
    del shorter["ballots"][-1]
    assert "published" in audit(shorter)[-1]
    stuffed = table.document()
    more = Ballot.model_validate({**stuffed["ballots"][0], "number": 15, "reviewer": "mallory"})
    stuffed["head"] = seal(stuffed["head"], more)
    stuffed["ballots"].append({**more.model_dump(), "hash": stuffed["head"]})
    assert any("has a vote already" in trouble for trouble in audit(stuffed))


def test_a_treatment_that_nearly_always_wins_is_proven_strong() -> None:
    table = Table(Design(seed=2, max_items=200), count=200)
    table.everybody(3, for_treatment)
    told = table.standing()
    overall = told["overall"]
    assert (overall["verdict"], overall["win_rate"]) == ("proven strong", 1.0)
    assert overall["interval"]["low"] > overall["sequence"]["low"] > 0.7
    assert set(told["categories"]) == {"c0", "c1", "c2"}
    assert told["sides"]["swapped"]["value"] == 1.0
    assert told["sides"]["left"]["low"] < 0.5 < told["sides"]["left"]["high"]


def test_few_decisive_votes_give_no_verdict_and_ties_count_half() -> None:
    table = Table(Design(seed=2, overlap=0.0, same_arm=0.0, swapped=0.0), count=40)
    rng = random.Random(1)
    table.everybody(1, lambda slot: slot.treatment if rng.random() < 0.5 else "tie")
    overall = table.standing()["overall"]
    assert overall["verdict"] == "inconclusive"
    assert overall["win_rate"] == (overall["wins"] + overall["ties"] / 2) / 40
    assert "30 needed" in overall["reason"]


def test_items_answered_alike_are_ties_in_the_rate_over_all_items() -> None:
    table = Table(Design(seed=2, overlap=0.0), count=100, alike=50)
    table.everybody(1, for_treatment)
    told = table.standing()
    assert told["agreed_items"] == 50
    assert told["overall"]["win_rate"] == 1.0
    assert told["with_agreed"]["value"] == 0.75


def test_a_pull_to_one_side_is_told_and_wins_nothing() -> None:
    table = Table(Design(seed=2, overlap=0.0), count=200)
    table.everybody(1, lambda slot: "left")
    told = table.standing()
    assert told["sides"]["left"]["value"] == 1.0
    assert told["sides"]["swapped"]["value"] == 0.0
    assert abs(told["overall"]["win_rate"] - 0.5) < 0.03
    assert told["overall"]["verdict"] == "inconclusive"


def test_raters_who_vote_at_random_block_the_verdict_and_those_who_agree_do_not() -> None:
    rng = random.Random(3)
    table = Table(Design(seed=2, overlap=0.5, raters=3), count=100)
    table.everybody(3, lambda slot: rng.choice(("left", "right", "tie")))
    told = table.standing()
    assert told["agreement"]["value"] < 0.2
    assert told["overall"]["verdict"] == "blocked"
    assert "guidelines" in told["overall"]["reason"]
    agreeing = Table(Design(seed=2, overlap=0.5, raters=3), count=100)
    agreeing.everybody(3, expert)
    assert agreeing.standing()["agreement"]["value"] == 1.0
    assert agreeing.standing()["overall"]["verdict"] in ("better", "strong")


def test_raters_who_nearly_always_prefer_the_same_arm_are_not_blocked_by_a_low_alpha() -> None:
    rng = random.Random(3)
    other = {"left": "right", "right": "left"}
    table = Table(Design(seed=2, overlap=0.5, raters=3), count=100)
    table.everybody(3, lambda slot: slot.treatment if rng.random() < 0.95 else other[slot.treatment])
    told = table.standing()
    assert told["agreement"]["value"] < 0.4
    assert told["overall"]["verdict"] == "proven strong"


def test_a_judge_counts_only_once_calibrated_and_its_bias_is_taken_out() -> None:
    table = Table(Design(seed=2, max_items=120, overlap=0.0), count=600)
    table.everybody(1, expert)
    good, useless = judged(table, 0.9)["judge-1"], judged(table, 0.0)["judge-1"]
    assert good["admitted"]
    assert (good["both"], good["others"]) == (120, 480)
    helped, alone = good["win_rate"]["estimate"], good["win_rate"]["experts"]
    assert helped["high"] - helped["low"] < alone["high"] - alone["low"]
    assert helped["low"] <= 0.7 <= helped["high"]
    assert good["win_rate"]["effective_extra_votes"] > 50
    assert not useless["admitted"]
    assert useless["win_rate"] is None


def test_what_the_reports_judges_said_is_a_preference_for_the_treatment() -> None:
    signatures = {
        "liked": "judge_pairwise|m|rubric:r|against:base|order:both",
        "grade": "judge|m|rubric:r|grades:5",
        "other": "judge_pairwise|m|rubric:r|against:stable|order:both",
        "exact_match": "exact_match|v1",
    }
    told = {"liked": 0.75, "grade": 1.0, "other": 1.0, "exact_match": 1.0}
    lacks = {"liked": None, "grade": 0.5, "other": 1.0, "exact_match": 0.0}
    arms = {"fine_tuned": told, "base": {"liked": 0.5, "grade": 0.5, "other": 0.0, "exact_match": 0.0}}
    report = {
        "passport": {"metrics": signatures},
        "items": [{"item_id": "a", "arms": arms}, {"item_id": "b", "arms": {**arms, "fine_tuned": lacks}}],
    }
    assert judgements_of(report, "fine_tuned", "base") == {"liked": {"a": 0.75}, "grade": {"a": 0.75, "b": 0.5}}
    assert judgements_of(report, "base", "fine_tuned") == {"liked": {"a": 0.25}, "grade": {"a": 0.25, "b": 0.5}}


def test_a_judge_is_not_admitted_on_a_handful_of_votes() -> None:
    table = Table(Design(seed=2, max_items=20, overlap=0.0), count=100)
    table.everybody(1, expert)
    told = judged(table, 1.0)["judge-1"]
    assert not told["admitted"]
    assert "fewer than 30" in told["reason"]


def test_the_rate_at_equal_length_takes_the_pull_of_length_out() -> None:
    longer = [replace(each, treatment=each.treatment + " and more" * (n % 5)) for n, each in enumerate(candidates(200))]
    plan = draw(longer, Design(seed=2, overlap=0.0))
    table = Table(Design(seed=2, overlap=0.0), count=200)
    table.plan = plan
    table.desk = Desk(campaign(plan), plan.slots, [], {})
    by_item = {item.item_id: len(item.treatment) - len(item.control) for item in plan.items}
    rng = random.Random(5)
    other = {"left": "right", "right": "left"}
    table.everybody(
        1, lambda slot: slot.treatment if by_item[slot.item_id] > 12 or rng.random() < 0.5 else other[slot.treatment]
    )
    told = table.standing()
    assert told["length_controlled"]["pull"] > 0.3
    assert told["length_controlled"]["estimate"]["value"] < told["overall"]["win_rate"] - 0.05
