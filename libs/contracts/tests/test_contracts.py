import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from libs.contracts import commands, events, feedback, inference
from libs.contracts.answers import answer_digest, canonical_answer, same_answer, single_spaced
from libs.contracts.envelope import Event, envelop
from libs.contracts.errors import PawlError, Permanent, Transient
from libs.contracts.feedback import Feedback
from libs.contracts.ids import NAMESPACE, derived_id, digest_bytes


def test_a_replayed_cause_yields_the_same_effect_id_and_another_cause_another() -> None:
    assert derived_id("a", "out") == derived_id("a", "out")
    assert all(derived_id("a", f"öut{at}") == str(uuid.uuid5(NAMESPACE, f"a/öut{at}")) for at in range(64))
    assert len({derived_id("a", "out"), derived_id("b", "out"), derived_id("a", "other")}) == 3


def test_json_answers_are_the_same_by_value_and_texts_by_their_words() -> None:
    assert same_answer('{"a": 1, "b": [2]}', '{"b":[2],"a":1}')
    assert not same_answer('{"a":1}', '{"a":2}')
    assert not same_answer('{"a":1}', '{"a":1,"a":1}'), "a duplicate key is not JSON"
    assert same_answer(" yes  please\n", "yes please")
    assert answer_digest("[1, 2]") == digest_bytes(b"[1,2]")


@given(st.text())
def test_canonical_form_is_a_fixed_point(text: str) -> None:
    assert canonical_answer(canonical_answer(text)) == canonical_answer(text)


_SPACES = st.sampled_from(list(" \t\n\x1c\x85\xa0\u2003\u2028\u3000"))


@given(st.lists(st.one_of(st.text(max_size=3), _SPACES)).map("".join))
def test_words_stand_one_space_apart_whatever_stood_between_them(text: str) -> None:
    assert single_spaced(text) == " ".join(text.split())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "correction", "request_id": "r"}, "needs the field 'correction'"),
        ({"kind": "rating", "request_id": "r"}, "needs the field 'rating'"),
        ({"kind": "rating", "rating": 3, "request_id": "r"}, "set scale to 5"),
        ({"kind": "rating", "rating": 0, "scale": 5, "request_id": "r"}, "1 to 5 where scale is 5"),
        ({"kind": "preference", "chosen": "a", "input": "x"}, "needs the field 'rejected'"),
        ({"kind": "escalation"}, "either 'request_id' or 'input'"),
        ({"kind": "correction", "request_id": "r", "correction": "x" * 70_000}, "at most 65536"),
    ],
)
def test_incomplete_feedback_is_refused_with_the_field_it_lacks(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Feedback.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "good"),
    [
        ({"kind": "rating", "rating": 1}, True),
        ({"kind": "rating", "rating": 0}, False),
        ({"kind": "rating", "rating": 3, "scale": 5}, None),
        ({"kind": "rating", "rating": 5, "scale": 5}, True),
        ({"kind": "escalation"}, False),
        ({"kind": "comment", "comment": "hm"}, None),
        ({"kind": "correction", "correction": "a", "output": "a"}, True),
        ({"kind": "correction", "correction": "a", "output": "b"}, False),
    ],
)
def test_feedback_says_good_bad_or_neither(fields: dict[str, object], good: bool | None) -> None:
    assert Feedback.model_validate({"request_id": "r", **fields}).is_good is good


def test_every_event_has_a_type_of_its_own_and_a_subject_of_its_family() -> None:
    kinds = [
        kind
        for module in (commands, events, feedback, inference)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Event) and vars(kind).get("subject")
    ]
    types = [kind.event_type() for kind in set(kinds)]
    assert len(types) == len(set(types))
    assert {name.split(".")[0] for name in types} == {"cmd", "evt", "feedback", "inference", "outcome"}


def test_an_envelope_addresses_its_subject() -> None:
    event = Feedback(kind=feedback.FeedbackKind.ESCALATION, request_id="r")
    assert envelop(event, source="test", tenant="acme", task="triage").subject == "feedback.acme.triage"


def test_every_error_is_either_transient_or_permanent_and_keeps_its_field() -> None:
    def leaves(kind: type[PawlError]) -> list[type[PawlError]]:
        return [kind, *(leaf for child in kind.__subclasses__() for leaf in leaves(child))]

    for kind in leaves(PawlError)[1:]:
        assert issubclass(kind, Transient) != issubclass(kind, Permanent)
        error = kind("no", field="x", got=3)
        assert (error.field, error.metadata, str(error)) == ("x", {"got": "3"}, "no")
