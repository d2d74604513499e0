"""Several signals on one response become one row with a confidence; what contradicts itself goes to a person."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.contracts.answers import canonical_answer
from libs.contracts.errors import InvalidInput
from libs.contracts.feedback import Feedback, FeedbackKind
from libs.contracts.task import FeedbackSpec
from libs.eventing.cloudevents import payload
from services.ingestion.domain.hygiene import Echoes, Senders, Tally
from services.ingestion.domain.joined import Joined, said_of
from services.ingestion.domain.judgement import Judgement, Said, judge
from services.ingestion.domain.signals import Arrival, claim_of
from services.ingestion.domain.wire import Words, plainly, recalled, spoken

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def heard(*words: tuple[Any, ...], answer: str | None = "wrong", sources: tuple[str, ...] = ()) -> Judgement:
    """Judge words of (kind, source, user, fields of the feedback)."""
    said = []
    for at, (kind, source, user, *fields) in enumerate(words):
        given_ = Words(kind=Feedback.model_validate({"kind": kind, "input": "q", **fields[0]}).kind, **fields[0])
        claim = claim_of(given_, answer)
        said.append(
            Said(row_id=f"fb-{at}", kind=kind, source=source, signal=claim.signal, at=float(at), user=user,
                 right=claim.right, rejected=claim.rejected)
        )  # fmt: skip
    return judge(said, answer, sources)


def correction(text: str, user: str = "u1", source: str = "desk") -> tuple[Any, ...]:
    return ("correction", source, user, {"correction": text})


def thumb(rating: int, user: str = "u2", source: str = "app") -> tuple[Any, ...]:
    return ("rating", source, user, {"rating": rating})


def test_a_correction_alone_is_a_preference_over_what_was_answered() -> None:
    told = heard(correction("right"))
    assert (told.form, told.output, told.rejected, told.confidence, told.review) == (
        "preference", "right", "wrong", 0.75, None,
    )  # fmt: skip


def test_blame_beside_a_correction_makes_it_surer_and_praise_a_contradiction() -> None:
    surer = heard(correction("right"), thumb(0))
    assert (surer.form, surer.output, surer.review) == ("preference", "right", None)
    assert surer.confidence == pytest.approx(2.5 / 3, abs=1e-4)
    doubted = heard(correction("right"), thumb(1))
    assert doubted.review == "contradiction: the answer was praised and corrected"
    assert doubted.confidence == 0.5


def test_thumbs_alone_become_a_labelled_row_by_their_weight() -> None:
    good, bad = heard(thumb(1, "a"), thumb(1, "b"), thumb(1, "c"), thumb(0, "d")), heard(thumb(0, "a"))
    assert (good.form, good.label, good.output, good.rejected, good.review) == ("kto", True, "wrong", None, None)
    assert (bad.form, bad.label, bad.output, bad.rejected) == ("kto", False, None, "wrong")
    assert heard(thumb(1, "a"), thumb(0, "b")).review == "contradiction: the answer was praised and blamed"


def test_nobody_named_is_one_voice_of_its_source() -> None:
    flood = [("rating", "app", None, {"rating": 0}) for _ in range(50)]
    assert heard(*flood).confidence == heard(flood[0]).confidence
    told = heard(thumb(1, "a"), thumb(1, "b"), thumb(1, "c"), *flood)
    assert (told.label, told.good, told.bad) == (True, 3, 1)


def test_opposite_words_of_whoever_named_nobody_go_to_a_person() -> None:
    praised, neither = ("rating", "desk", None, {"rating": 1}), ("comment", "desk", None, {"comment": "hm"})
    nobody = ("correction", "desk", None, {"correction": "right"})
    stars: list[tuple[Any, ...]] = [("rating", "desk", None, {"rating": at, "scale": 5}) for at in range(6)]
    for words in ([nobody, praised], [praised, neither, nobody], [stars[1], stars[3], stars[5]]):
        assert str(heard(*words).review).startswith("contradiction: whoever named nobody")
    assert heard(stars[5], stars[3]).review is None
    assert heard(nobody, nobody).review is None
    assert heard(correction("right"), thumb(1, "u1", "desk")).review is None, "a user may change his mind"


def test_who_asked_is_not_taken_to_be_whoever_named_nobody() -> None:
    words = plainly(b'{"kind":"rating","rating":1,"request_id":"r"}')
    assert words is not None
    joined = Joined(msgspec.structs.replace(arrival(""), feedback=words), None, claim_of(words, "wrong"))
    praise = said_of(joined, "asker")
    blame = Said(row_id="fb-0", kind="rating", source="app", signal="bad", at=0.0, user="asker", rejected="wrong")
    assert str(judge([blame, praise], "wrong").review).startswith("contradiction: whoever named nobody")
    named = msgspec.structs.replace(praise, named=True)
    assert judge([blame, named], "wrong").review is None


def test_two_different_corrections_go_to_review_and_two_equal_ones_agree() -> None:
    split = heard(correction("right", "a"), correction("left", "b"))
    assert split.review == "contradiction: 2 different right answers were given"
    same = heard(correction("right", "a"), correction("  right ", "b"), thumb(0))
    assert (same.review, same.rows) == (None, ["fb-0", "fb-1", "fb-2"])


def test_whoever_speaks_twice_is_heard_once_with_the_last_word() -> None:
    told = heard(correction("left", "a"), correction("right", "a"), *[thumb(1, "troll")] * 9)
    assert (told.output, told.good, told.bad) == ("right", 1, 1)


ESCALATED: tuple[Any, ...] = ("escalation", "desk", "u1", {})
STARS = [("rating", "app", "u2", {"rating": stars, "scale": 5}) for stars in range(6)]


@pytest.mark.parametrize("later", [ESCALATED, ("error", "desk", "u1", {}), thumb(0, "u1", "desk")])
def test_whoever_corrects_and_then_blames_still_says_what_is_right(later: tuple[Any, ...]) -> None:
    for words in ([correction("right"), later], [later, correction("right")]):
        told = heard(*words)
        assert (told.form, told.output, told.rejected, told.review) == ("preference", "right", "wrong", None)


def test_whoever_gives_an_answer_and_then_says_neither_good_nor_bad_still_stands_by_it() -> None:
    stars = ("rating", "desk", "u1", {"rating": 3, "scale": 5})
    for words in ([correction("right"), stars], [stars, correction("right")]):
        told = heard(*words)
        assert (told.form, told.output, told.rejected) == ("preference", "right", "wrong")
    between = ("preference", "desk", "u1", {"chosen": "better", "rejected": "worse"})
    for later in (stars, thumb(0, user="u1", source="desk")):
        told = heard(between, later)
        assert (told.form, told.output, told.rejected) == ("preference", "better", "worse")
    # Who praised by writing the same answer, or praises now, has taken back what contradicts that.
    assert heard(correction("wrong"), stars).form is None
    praised = heard(correction("right"), thumb(1, user="u1", source="desk"))
    assert (praised.form, praised.label, praised.output) == ("kto", True, "wrong")


def test_stars_taken_back_praise_and_blame_no_more_and_a_comment_takes_nothing_back() -> None:
    assert (heard(STARS[5], STARS[3]).form, heard(STARS[1], STARS[3]).form) == (None, None)
    assert heard(STARS[3], STARS[5]).label is True
    chosen = ("preference", "desk", "a", {"chosen": "right", "rejected": "left"})
    told = heard(chosen, ("comment", "desk", "a", {"comment": "hm"}))
    assert (told.form, told.output, told.rejected) == ("preference", "right", "left")


def test_praise_beside_a_preference_for_the_answer_keeps_the_pair() -> None:
    pair = ("preference", "desk", "a", {"chosen": "wrong", "rejected": "worse"})
    for words in ([pair, thumb(1, "b")], [pair, thumb(1, "a", "desk")]):
        told = heard(*words)
        assert (told.form, told.output, told.rejected) == ("preference", "wrong", "worse")


def test_the_last_word_is_the_one_that_came_last_whichever_was_stored_first() -> None:
    up, down = (
        Said(f"fb-{at}", "rating", "app", claim_of(Words(kind=FeedbackKind.RATING, rating=at), "x").signal, float(at),
             user="a", right="x" if at else None, rejected=None if at else "x")
        for at in (1, 0)
    )  # fmt: skip
    assert judge([up, down], "x").label is judge([down, up], "x").label is True


def test_untrusted_sources_are_not_heard_while_a_trusted_one_speaks() -> None:
    told = heard(correction("right", "a", "desk"), *[correction("evil", f"t{at}", "web") for at in range(9)],
                 sources=("desk",))  # fmt: skip
    assert (told.output, told.source, told.review) == ("right", "desk", None)
    assert heard(correction("evil", "t", "web"), sources=("desk",)).source == "web"


def test_a_correction_that_repeats_the_answer_is_praise() -> None:
    told = heard(correction(" wrong "))
    assert (told.form, told.label, told.good) == ("kto", True, 1)


def test_without_the_answer_a_correction_still_teaches() -> None:
    assert heard(correction("right"), answer=None).form == "sft"
    assert heard(thumb(1), answer=None).form is None


def test_a_preference_is_kept_as_a_pair() -> None:
    told = heard(("preference", "desk", "a", {"chosen": "right", "rejected": "left"}))
    assert (told.form, told.output, told.rejected) == ("preference", "right", "left")


def arrival(user: str, at: datetime = NOON, source: str = "app", correction_: str | None = None) -> Arrival:
    words = plainly(b'{"kind":"error","input":"q"}')
    assert words is not None
    fields = {name: getattr(words, name) for name in Words.__struct_fields__} | {
        "user": user,
        "correction": correction_,
    }
    return Arrival("default", "t", source, "x", b"", Words(**fields), "", at.timestamp(), 1)


def test_who_floods_loses_weight_and_needs_a_persons_look_until_the_hour_is_over() -> None:
    senders, policy, tally = Senders(), FeedbackSpec(user_per_hour=10), Tally()
    weighed = [senders.weigh(arrival("troll"), policy, tally) for _ in range(20)]
    assert set(weighed[:10]) == {(1.0, None)}
    assert weighed[-1] == (0.5, "flood: this user sent more than 10 signals within an hour")
    assert senders.weigh(arrival("ada"), policy, tally) == (1.0, None)
    assert senders.weigh(arrival("troll", NOON + timedelta(hours=1)), policy, tally)[1] is None


def test_who_is_not_named_is_whoever_asked() -> None:
    senders, policy, tally = Senders(), FeedbackSpec(user_per_hour=2), Tally()
    weighed = [senders.weigh(arrival(""), policy, tally, asker)[1] is None for asker in ("u1", "u1", "u1", "u2")]
    assert weighed == [True, True, False, True]


def test_a_batch_that_was_not_stored_accuses_nobody() -> None:
    senders, policy = Senders(), FeedbackSpec(user_per_hour=10)
    for _ in range(5):
        tally = Tally()
        assert [senders.weigh(arrival("ada"), policy, tally)[1] for _ in range(8)] == [None] * 8
    senders.stored(tally)
    tally = Tally()
    assert [senders.weigh(arrival("ada"), policy, tally)[1] is None for _ in range(4)] == [True, True, False, False]


def test_a_source_weighs_what_the_policy_says() -> None:
    policy = FeedbackSpec(weights={"web": 0.25})
    assert Senders().weigh(arrival("a", source="web"), policy, Tally()) == (0.25, None)


def test_a_long_answer_of_ours_is_known_again_whatever_its_spacing_and_a_label_is_not() -> None:
    echoes, text = Echoes(), "Please restart the printer and wait. " * 8
    echoes.heard("default", "t", [(text, 7), ("BILLING", 7), ('{"a": 1}' * 40, 7)])

    def version_of(task: str, said: str) -> int | None:
        return echoes.version_of("default", task, canonical_answer(said))

    assert version_of("t", text.upper().replace(" ", "  ")) == 7
    assert version_of("other", text) is None
    assert version_of("t", "BILLING") is None
    assert version_of("t", '{"a": 1}' * 40) is None


_TEXTS = st.one_of(st.none(), st.text(max_size=8))


@given(
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["rating", "correction", "preference", "error", "comment", "escalation", "x"])},
        optional={
            "id": _TEXTS, "source": st.one_of(st.text(max_size=8), st.text(min_size=101, max_size=102)),
            "request_id": _TEXTS, "input": _TEXTS, "output": _TEXTS,
            "rating": st.one_of(st.integers(-1, 6), st.booleans(), st.just("1"), st.just(1.0), st.none()),
            "scale": st.sampled_from([1, 5, 3, None]), "correction": _TEXTS, "chosen": _TEXTS, "rejected": _TEXTS,
            "comment": _TEXTS, "user": _TEXTS, "consent": st.sampled_from([True, False, None, "yes", 1]),
            "created_at": st.sampled_from([None, "2026-01-01T00:00:00Z", "2026-01-01", "2026-01-01 10:00", 1, "x"]),
            "surplus": st.just([1]),
        },
    )
)  # fmt: skip
def test_the_fast_reader_takes_nothing_that_the_contract_refuses_and_reads_the_same(body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    fast = plainly(data)
    if fast is None:
        return
    try:
        slow = spoken(payload(Feedback, data))
    except InvalidInput as error:
        raise AssertionError(f"the contract refuses {error.field}: {error}") from error
    assert fast == slow
    assert fast.is_good == Feedback.model_validate_json(data).is_good


@pytest.mark.parametrize(("rating", "scale", "taken"), [(0, 5, False), (1, 5, True), (5, 5, True), (2, 1, False)])
def test_stars_begin_at_one_at_the_fast_door_too_and_what_was_stored_before_is_still_read(
    rating: int, scale: int, taken: bool
) -> None:
    body = json.dumps({"kind": "rating", "rating": rating, "scale": scale, "request_id": "r"}).encode()
    assert (plainly(body) is not None) is taken
    assert (recalled(body).rating, recalled(body).scale) == (rating, scale)
