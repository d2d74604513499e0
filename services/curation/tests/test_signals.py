"""What all signals on a request say, what a reviewer decided on it, and what is asked of one."""

import json
from typing import Any

import pytest

from services.curation.compute.pipeline import curate
from services.curation.domain.judgement import heard
from services.curation.domain.review import Decision
from services.curation.domain.rows import Row
from services.curation.domain.split import TRAIN
from services.curation.tests.conftest import ALL_TRAIN, built, context_for, only, row


def test_who_reviews_reads_what_users_said_of_the_answer() -> None:
    rows = [
        row(0, "where is it", "here", request_id="r1", review="two people disagree", comment="it is long gone"),
        row(1, "where is it", None, request_id="r1", kind="comment", signal="neutral", comment="ask ada@example.org"),
        row(2, "who came", "nobody", request_id="r2", review="two people disagree"),
    ]
    reasons = {each.row_id: each.reason for each in built(rows).questions}
    assert reasons["row-00000"].startswith("two people disagree; users said: it is long gone\nask ")
    assert reasons["row-00002"] == "two people disagree"


def test_what_was_said_of_a_request_is_put_together_once() -> None:
    rows = [row(at, "q", request_id="r", comment=f"it is gone {at}", named=frozenset({f"n{at}"})) for at in range(3)]
    first, *others = heard([*rows, row(9, "q")])[:3]
    assert first.comment == "it is gone 0\nit is gone 1\nit is gone 2"
    assert first.named == {"n0", "n1", "n2"}
    assert all(each.comment is first.comment and each.named is first.named for each in others)


def test_what_all_signals_on_a_response_say_replaces_reconciling_by_hand() -> None:
    said = {"form": "preference", "output": "right", "rejected": "wrong", "good": 2, "bad": 1, "kind": "correction"}
    rows = [
        row(0, "q", "fine", kind="rating", request_id="r", revision=1, judgement=json.dumps({"output": "fine"})),
        row(1, "q", "right", kind="rating", request_id="r", revision=2, judgement=json.dumps(said)),
    ]
    version = built(rows)
    kept = only(version)
    assert (kept.row_id, kept.answer, kept.rejected, kept.kind) == ("row-00001", "right", "wrong", "correction")
    assert version.ledger.removed == {"row-00000": "superseded_signal"}


@pytest.mark.parametrize(
    ("state", "later", "left"),
    [
        ("rejected", "bad", []),
        ("rejected", "good", ["good"]),
        ("edited", "bad", ["better"]),
        ("edited", "good", ["better"]),
        ("approved", "good", ["bad"]),
    ],
)
def test_what_a_reviewer_decided_outlasts_later_signals_on_the_request(state: str, later: str, left: list[str]) -> None:
    def judged(at: int, output: str) -> Row:
        said = {"output": output, "rows": [f"row-{each:05d}" for each in range(at + 1)]}
        return row(at, "q", "bad", kind="rating", request_id="r", revision=at + 1, judgement=json.dumps(said))

    given = Decision("row-00000", state, answer="better" if state == "edited" else None, by="ann")
    version = built([judged(0, "bad"), judged(1, later)], {"decisions": {"row-00000": given}})
    assert [each.answer for each in version.splits[TRAIN]] == left


def test_an_answer_that_a_reviewer_rejected_is_not_let_in_by_later_praise() -> None:
    rejected = {"decisions": {"row-00000": Decision("row-00000", "rejected", by="ann")}}
    first, *later = [row(at, "q", "bad", kind="rating", request_id="r") for at in range(2)]
    assert built([first, *later], rejected).splits[TRAIN] == []
    other = row(2, "q", "good", kind="correction", request_id="r")
    assert only(built([first, *later, other], rejected)).answer == "good"


@pytest.mark.parametrize(
    ("unheard", "known"),
    [
        ({"user": "h"}, {"erased": frozenset(["h"])}),
        ({"consent": False}, {}),
        ({"source": "stranger"}, {}),
    ],
)
def test_whoever_may_not_be_heard_does_not_speak_through_the_judgement_of_another(
    unheard: dict[str, Any], known: dict[str, Any]
) -> None:
    secret = row(0, "q", "what only the first one said", **{"kind": "correction", "request_id": "r", **unheard})
    said = {"form": "sft", "output": secret.answer, "kind": "correction", "rows": ["row-00000", "row-00001"]}
    praise = row(1, "q", "fine", kind="rating", request_id="r", revision=2, judgement=json.dumps(said))
    spec = {**ALL_TRAIN, "sources": ["crm"]}
    kept = only(curate([secret, praise], context_for(known=known, data=spec)))
    assert (kept.row_id, kept.answer) == ("row-00001", "fine")


@pytest.mark.parametrize(
    "review", ["own output: word for word ours", "flood: this user sent more than 9 signals", None]
)
def test_a_doubt_about_a_signal_outlasts_the_judgement_that_fell_and_what_the_others_weighed_does_not(
    review: str | None,
) -> None:
    said = {
        "form": "sft",
        "output": "right",
        "kind": "correction",
        "confidence": 0.2,
        "rows": ["row-00000", "row-00001"],
    }
    gone = row(0, "q", "left", kind="correction", request_id="r", revision=1, consent=False)
    left = row(
        1, "q", "right", kind="correction", request_id="r", revision=2, judgement=json.dumps(said), confidence=0.2,
        review=review or "contradiction: 2 different right answers were given",
    )  # fmt: skip
    version = built([gone, left])
    assert [each.reason for each in version.questions] == ([review] if review else [])
    assert (
        only(curate([gone, left], context_for(data={**ALL_TRAIN, "curation": {"min_confidence": 0.5}}))).answer
        == "right"
    )


def test_of_signals_that_came_together_the_judgement_of_the_last_speaks_for_all() -> None:
    said = {"form": "sft", "output": "right", "kind": "correction", "rows": ["row-00000", "row-00002"]}
    first, second = (row(at, "q", f"right {at}", kind="correction", request_id="r", revision=at + 1) for at in (0, 1))
    last = row(2, "q", "fine", kind="rating", request_id="r", revision=3, judgement=json.dumps(said))
    version = built([first, second, last])
    assert (only(version).row_id, only(version).answer) == ("row-00002", "right")
    assert version.ledger.removed == dict.fromkeys(("row-00000", "row-00001"), "superseded_signal")


def test_who_spoke_after_the_last_judgement_that_may_stand_is_not_passed_over() -> None:
    said = {"form": "sft", "output": "left", "kind": "correction", "rows": ["row-00000"]}
    early = row(0, "q", "left", kind="correction", request_id="r", revision=1, judgement=json.dumps(said))
    late = row(1, "q", "right", kind="correction", request_id="r", revision=2)
    gone = row(2, "q", "no", kind="correction", request_id="r", revision=3, judgement="{}", consent=False)
    version = built([early, late, gone])
    assert (only(version).row_id, only(version).answer) == ("row-00001", "right")


def test_what_was_found_of_a_signal_outlasts_the_judgement_that_it_was_heard_in() -> None:
    flag = "own output: the correction is word for word an answer of version 3"
    said = {"form": "kto", "output": None, "rows": ["row-00000"]}
    early = row(0, "q", None, kind="rating", signal="bad", request_id="r", revision=1, judgement=json.dumps(said))
    echo = row(1, "q", "an answer of ours", kind="correction", request_id="r", revision=2, review=flag)
    gone = row(2, "q", "no", kind="correction", request_id="r", revision=3, judgement="{}", consent=False)
    for rows in ([early, echo, gone], [echo, gone]):
        assert [(each.row_id, each.reason) for each in built(rows).questions] == [("row-00001", flag)]


@pytest.mark.parametrize("later", [{}, {"licence": "mit", "consent": None, "category": "billing"}])
def test_an_answer_trains_under_the_terms_of_whoever_gave_it(later: dict[str, Any]) -> None:
    told = {"group": "t1", "category": "orders", "licence": "cc-by-sa-4.0", "consent": True}
    right = row(0, "q", "right", kind="correction", request_id="r", revision=1, **told)
    said = {"form": "sft", "output": "right", "kind": "correction", "rows": ["row-00000", "row-00001"]}
    thumb = row(1, "q", "x", kind="rating", request_id="r", revision=2, judgement=json.dumps(said), **later)
    kept = only(built([right, thumb]))
    assert (kept.row_id, kept.answer, kept.licence, kept.consent) == ("row-00001", "right", "cc-by-sa-4.0", True)
    assert kept.category == later.get("category", "orders")
    assert kept.conversation == only(built([right])).conversation


def test_what_ingestion_judged_is_repaired_like_any_answer() -> None:
    said = {"form": "sft", "output": "schÃ¶n", "kind": "correction", "rows": ["row-00000"]}
    version = built([row(0, "q", "schÃ¶n", kind="correction", request_id="r", revision=1, judgement=json.dumps(said))])
    assert only(version).answer == "schön"


def test_signals_that_agree_less_than_the_policy_asks_for_do_not_train() -> None:
    def judged(at: int, confidence: float) -> Row:
        said = {"output": f"answer {at}", "kind": "correction", "confidence": confidence, "rows": [f"row-{at:05d}"]}
        return row(at, f"question {at}", "x", request_id=f"r{at}", revision=1, judgement=json.dumps(said))

    rows = [judged(0, 0.5), judged(1, 0.75), row(2, "an import is asked for no signals", "a")]
    assert built(rows).ledger.removed == {}
    version = built(rows, min_confidence=0.6)
    assert version.ledger.removed == {"row-00000": "low_confidence"}
    assert version.ledger.examples["low_confidence"][0]["detail"] == "0.50, the least is 0.60"
    approved = {"decisions": {"row-00000": Decision("row-00000", "approved", by="ann")}}
    assert built(rows, approved, min_confidence=0.6).ledger.removed == {}


def test_without_the_least_confidence_a_row_teaches_what_its_signals_say() -> None:
    said = {"output": "right", "rejected": "wrong", "kind": "correction", "confidence": 0.3, "rows": ["row-00000"]}
    unsure = row(0, "q", "wrong", kind="rating", request_id="r", revision=1, judgement=json.dumps(said))
    kept = only(built([unsure], {"undone": frozenset({"low_confidence"})}, min_confidence=0.6))
    assert (kept.answer, kept.rejected, kept.kind) == ("right", "wrong", "correction")


def test_what_ingestion_flags_enters_the_queue() -> None:
    version = built([row(0, "q", "a", review="one sender floods")])
    assert [(each.kind, each.reason) for each in version.questions] == [("contradiction", "one sender floods")]
