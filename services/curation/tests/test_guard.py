"""The guard: rows that differ where it matters are kept apart and told, slips and courtesies are no difference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.curation.compute import near_substitutes
from services.curation.compute.near import find_near
from services.curation.compute.near_pairs import Pairs, word_sets
from services.curation.domain.guard import difference
from services.curation.domain.guard_fillers import FILLERS
from services.curation.domain.guard_measures import DATES, UNITS
from services.curation.domain.guard_opposites import OPPOSITE_OF, OPPOSITES
from services.curation.domain.guard_substitutes import counts_of, substituted
from services.curation.domain.guard_words import NEGATIONS, NUMBERS
from services.curation.domain.text import words

WORDS = (
    "Invoice", "invoices", "invocie", "printer", "not", "two", "2", "Paris", "Berlin", "ann@b.org", "disable", "please",
    "log", "in", "login", "GARDEN", "I'm", "monday", "5kg", "…", "ß", "Österreich", "österreich", "e-mail", "email",
)  # fmt: skip
texts_of_words = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=9), st.lists(st.sampled_from(WORDS), min_size=20, max_size=60)
).map(" ".join)


@settings(max_examples=80, deadline=None)
@given(st.lists(texts_of_words, min_size=2, max_size=6))
def test_columns_see_the_substitutes_that_the_reference_sees(texts: list[str]) -> None:
    pairs = [(left, right) for left in range(len(texts)) for right in range(left)]
    left, right = (np.array(side, np.int64) for side in zip(*pairs, strict=True))
    sets = word_sets(texts, np.arange(len(texts)))
    found = near_substitutes.substituted(Pairs(left, right, np.zeros(len(pairs))), texts, sets)
    counts = counts_of(words(text) for text in texts)
    assert found.tolist() == [substituted(texts[one], texts[other], counts) is not None for one, other in pairs]


def test_a_word_carries_one_mark_and_stands_as_it_is_read() -> None:
    listed = [*NUMBERS, *NEGATIONS, *DATES, *UNITS, *OPPOSITES]
    assert len(set(listed)) == len(listed)
    assert all(words(word) == [word] for word in (*listed, *FILLERS, *OPPOSITE_OF))
    assert FILLERS.isdisjoint(listed)


CRITICAL = [
    ("date", "book a table for us on monday at seven", "book a table for us on thursday at seven"),
    ("date", "my contract ends in march or maybe later", "my contract ends in may or maybe later"),
    ("date", "wake me at 6 am and call the driver", "wake me at 6 pm and call the driver"),
    ("date", "der Termin ist am Dienstag um neun Uhr", "der Termin ist am Freitag um neun Uhr"),
    ("unit", "the parcel weighs 5 kg and is not heavy", "the parcel weighs 5 lb and is not heavy"),
    ("unit", "it takes about 3 days to arrive here", "it takes about 3 weeks to arrive here"),
    ("unit", "please send me 200 dollars from my account", "please send me 200 euros from my account"),
    ("unit", "the price was 40 € in the shop", "the price was 40 $ in the shop"),
    ("polarity", "please buy ten shares of it for me", "please sell ten shares of it for me"),
    ("polarity", "ich will das Angebot heute noch kaufen", "ich will das Angebot heute noch verkaufen"),
    ("polarity", "je veux activer cette option sur mon compte", "je veux désactiver cette option sur mon compte"),
    ("polarity", "quiero aumentar el límite de la tarjeta hoy", "quiero reducir el límite de la tarjeta hoy"),
    ("word", "i would like to fly to lisbon next month", "i would like to fly to oslo next month"),
    ("word", "please forward all of this to peter now", "please forward all of this to susan now"),
    ("word", "somebody has stolen my card on the train", "somebody has stolen my car on the train"),
    ("word", "i want to check in for the flight", "i want to check out for the flight"),
    ("word", "how many cups of tea and how many cups of coffee", "how many cups of tea and how many mugs of coffee"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "left", "right"), CRITICAL)
def test_short_rows_that_say_different_things_are_kept_apart_and_told(kind: str, left: str, right: str) -> None:
    found = find_near([left, right], threshold=0.5)
    assert found.centres == [0, 1]
    assert found.apart_pairs == {kind: 1}
    told = difference(left, right)
    assert told is not None
    assert found.apart[0].detail == f"{' '.join(told.right)} | {' '.join(told.left)}"


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("i want to cancel the order that i made", "hello, i want to cancel the order i made, thanks"),
        ("how do i reset my password on the page", "how can i reset my pasword on the page"),
        ("the deliveries never arrived at our office", "the delivery never arrived at our offices"),
        ("i can log in to my account and see the bill", "i can login to my account and see the bill"),
        ("please send the e-mail to my new address", "please send the email to my new address"),
        ("ich habe etwas bei euch bestellt und warte noch", "ich habe etwas bei euch bestellen und warte noch"),
        ("the colour of the shirt is not what i ordered", "the color of the shirt is not what i ordered"),
        ("the meeting is on tuesday in the large room", "the meeting is on tue in the large room"),
    ],
)
def test_slips_forms_and_courtesies_are_no_difference(left: str, right: str) -> None:
    assert difference(left, right) is None
    assert find_near([left, right], threshold=0.5).centres == [0, 0]


def test_a_slip_between_two_words_of_the_corpus_is_none() -> None:
    left, right = "please explain the house on my bill to me", "please explain the horse on my bill to me"
    assert find_near([left, right], threshold=0.6).centres == [0, 0]
    others = [
        f"{word} number {at} was seen again in the {place}"
        for word in ("house", "horse")
        for at, place in enumerate(("garden", "city", "valley"))
    ]
    near = [f"{text} by everyone" for text in others]
    found = find_near([*others, *near, left, right], threshold=0.6)
    assert found.centres[-2:] == [12, 13]
    assert ("word", "horse | house") in {(each.kind, each.detail) for each in found.apart}


def test_in_a_long_row_what_fills_a_blank_is_critical_and_so_is_a_name_and_two_words_of_many_are_not() -> None:
    said = " ".join(f"word{chr(97 + at // 26)}{chr(97 + at % 26)}" for at in range(40))
    texts = [f"laura bought {said}", f"mercedes bought {said}", f"laura ordered {said} somehow"]
    found = find_near(texts, threshold=0.8)
    assert found.centres == [0, 1, 0]
    assert {each.detail for each in found.apart} == {"mercedes | laura"}
    found = find_near([text.capitalize() for text in (texts[0], f"Mercedes ordered {said}")], threshold=0.8)
    assert [each.detail for each in found.apart] == ["mercedes | laura"]
