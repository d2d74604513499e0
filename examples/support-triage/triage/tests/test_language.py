"""The grammar and the tickets: wide, seeded, and honest about what is held out."""

import itertools
import json
import random

import pytest

from triage.language import CATEGORIES, FORMS, KNOWN, NEW, TEAMS, TOPICS, phrase
from triage.tickets import KEYS, poisoned, tickets
from triage.trial import forms, split


def test_each_category_has_at_least_fifty_distinct_forms() -> None:
    for topic in TOPICS.values():
        assert len({form.skeleton for form in topic.forms}) == len(topic.forms) >= 50
    assert len(CATEGORIES) == 9


def test_every_slot_of_every_form_and_detail_can_be_filled() -> None:
    rng = random.Random(0)
    for form in FORMS.values():
        for _ in range(3):
            said = phrase(form, "Quill", rng)
            assert not set("{}(|)") & set(said)
            assert said.strip() == said


def test_the_same_seed_gives_the_same_tickets_and_a_longer_run_begins_with_the_shorter() -> None:
    assert list(tickets(3, 50)) == list(tickets(3, 80))[:50]
    assert list(tickets(3, 50)) != list(tickets(4, 50))


def test_an_answer_is_compact_json_with_fixed_keys_and_values_found_in_the_text() -> None:
    for ticket in tickets(5, 300, categories=CATEGORIES):
        body = json.loads(ticket.answer)
        assert ticket.answer == json.dumps(body, separators=(",", ":"))
        assert tuple(body) == KEYS
        assert tuple(body["entities"]) == ("product", "asset")
        assert (body["category"], body["team"]) == (ticket.category, TEAMS[ticket.category])
        assert all(value in ticket.text for value in body["entities"].values())


def test_the_new_category_does_not_occur_unless_asked_for() -> None:
    assert {t.category for t in tickets(1, 500)} == set(KNOWN)
    assert {t.category for t in tickets(1, 20, categories=(NEW,))} == {NEW}


def test_tickets_can_be_restricted_to_forms_and_weighted() -> None:
    only = ["billing-003", "data-001"]
    assert {t.form for t in tickets(1, 40, forms=only, categories=("billing", "data"))} == set(only)
    counts = [t.category for t in tickets(1, 400, weights={"access": 20.0})]
    assert counts.count("access") > 200


@pytest.mark.parametrize("options", [{"categories": ("acess",)}, {"forms": ("billing-999",)}])
def test_an_unknown_category_or_form_is_named(options: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(ValueError, match=next(iter(options.values()))[0]):
        list(tickets(1, 1, **options))  # type: ignore[arg-type]


def test_a_category_left_without_forms_is_named() -> None:
    with pytest.raises(ValueError, match="no forms left for data"):
        list(tickets(1, 1, categories=("billing", "data"), forms=("billing-003",)))


def test_held_out_forms_share_their_words_but_not_their_phrasing() -> None:
    trained, held = set(forms("train")), set(forms("test"))
    assert not trained & held
    words = {w for form in trained for w in TOPICS[FORMS[form].category].slots}
    for form in held:
        assert set(TOPICS[FORMS[form].category].slots) <= words


def test_about_a_quarter_of_the_tickets_is_held_out_and_more_than_three_hundred() -> None:
    held = [t for t in tickets(7, 1700) if split(t.form) == "test"]
    assert 330 <= len(held) <= 520


def test_a_poisoned_ticket_keeps_its_text_and_is_wrong_in_category_team_and_priority() -> None:
    for right in itertools.islice(tickets(2, 100), 100):
        wrong = poisoned(right)
        old, new = json.loads(right.answer), json.loads(wrong.answer)
        assert (wrong.text, new["entities"]) == (right.text, old["entities"])
        assert all(old[k] != new[k] for k in ("category", "team", "priority"))
