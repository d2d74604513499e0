"""The question in other languages and scripts, and what the task's owner adds."""

# ruff: noqa: RUF001 - letters of other scripts are what this is about

import random
import unicodedata
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from libs.contracts.errors import InvalidInput
from libs.contracts.inference import Message
from libs.contracts.task import EvaluationSpec, VariantSpec
from services.evaluator.domain.live import language_of
from services.evaluator.domain.suite import Item
from services.evaluator.domain.suites import languages
from services.evaluator.domain.suites.edge import edge_items
from services.evaluator.domain.suites.languages import Material
from services.evaluator.domain.suites.phrases import FRAMES, LANGUAGES, PHRASES

TICKET = "Hello, the printer in Graz does not work since yesterday and Anna Meier needs AB-12345. Please help."
ANSWER = '{"category": "printer", "who": "Anna Meier", "asset": "AB-12345"}'
QUOTED = ("printer", "Anna", "Meier", "AB-12345")
KINDS: tuple[Callable[[Material, random.Random], str], ...] = (
    languages.language, languages.switching, languages.transliteration, languages.script, languages.direction,
)  # fmt: skip


def scripts(text: str) -> set[str]:
    return {unicodedata.name(sign, "?").split()[0] for sign in text if sign.isalpha()}


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_right_answer_quotes_can_still_be_read(kind: Callable[[Material, random.Random], str]) -> None:
    for seed in range(40):
        told = kind(Material(TICKET, ANSWER), random.Random(seed))
        assert told != TICKET
        assert all(word in told for word in QUOTED)
        told = kind(Material(TICKET), random.Random(seed))
        assert "AB-12345" in told


def test_the_phrasebook_has_every_phrase_in_every_language() -> None:
    assert all(set(told) == set(LANGUAGES) and all(told.values()) for told in PHRASES.values())
    for told in PHRASES.values():
        assert scripts(told["ru"]) == {"CYRILLIC"}
        assert scripts(told["ar"]) == {"ARABIC"}
        assert scripts(told["zh"]) == {"CJK"}
        assert scripts(told["hi"]) == {"DEVANAGARI"}
    assert set(FRAMES) == {*LANGUAGES, "he"}


def test_the_tasks_own_text_is_told_in_the_other_language_as_far_as_the_book_goes() -> None:
    told = {seed: languages.language(Material(TICKET), random.Random(seed)) for seed in range(60)}
    german = next(text for text in told.values() if text.startswith("Guten Tag"))
    body = "Hallo, the Drucker in Graz funktioniert nicht seit gestern und Anna Meier needs AB-12345. Bitte Hilfe."
    assert body in german
    russian = next(text for text in told.values() if text.startswith("Здравствуйте"))
    assert "the принтер in Graz не работает со вчерашнего дня и Anna" in russian
    assert language_of(russian) == "ru"
    assert len({text.split()[0] for text in told.values()}) == len(LANGUAGES)


def test_several_languages_stand_in_one_switched_sentence() -> None:
    seen = set()
    for seed in range(40):
        told = languages.switching(Material(TICKET), random.Random(seed))
        assert "needs" in told
        assert sum(any(each[tongue] in told for each in PHRASES.values()) for tongue in LANGUAGES) >= 2
        seen |= scripts(told)
    assert {"LATIN", "CYRILLIC", "ARABIC", "CJK", "DEVANAGARI"} <= seen
    plain = languages.switching(Material("nothing the book knows stands here, word after word"), random.Random(0))
    assert plain != "nothing the book knows stands here, word after word"


def test_sounds_are_spelt_in_another_alphabet_and_back() -> None:
    told = {languages.transliteration(Material("Ship the tapes"), random.Random(seed)) for seed in range(20)}
    assert told == {"Шип те тапес", "Σχιπ θε ταπες"}
    assert languages.transliteration(Material("Принтер не работает"), random.Random(0)) == "Printer ne rabotaet"


def test_signs_change_and_a_reader_sees_the_same() -> None:
    told = {languages.script(Material("the paper is out"), random.Random(seed)) for seed in range(30)}
    assert len(told) == 3
    folded = {unicodedata.normalize("NFKC", text) for text in told}
    assert "the paper is out" in folded
    assert any(scripts(text) == {"LATIN", "CYRILLIC"} for text in told)


def test_text_runs_from_right_to_left_with_the_marks_of_programs() -> None:
    told = [languages.direction(Material(TICKET), random.Random(seed)) for seed in range(40)]
    assert {"ARABIC", "HEBREW"} <= set().union(*(scripts(text) for text in told))
    assert all("\u2067" in text for text in told)
    assert any("\u2069" not in text for text in told)
    assert any("\u202e" in text for text in told)


def items(*questions: str) -> tuple[Item, ...]:
    return tuple(
        Item(f"i{n}", (Message(role="user", content=text),), f"a{n}", None, f"g{n}") for n, text in enumerate(questions)
    )


def test_the_owners_templates_say_the_tasks_own_questions_in_another_language() -> None:
    spec = EvaluationSpec.model_validate(
        {
            "suites": [
                {
                    "kind": "edge", "items": 40, "attacks": ["typos", "german"],
                    "variants": [
                        {
                            "name": "german", "match": "the (?P<what>.+) number (?P<n>[0-9]+) is out of paper.*",
                            "says": ["{what} Nummer {n} hat kein Papier mehr"],
                        },
                        {"name": "angry", "says": ["{text}!!! WHERE IS {MY} MONEY"]},
                        {"name": "cut", "says": ["Answer before you read on:"], "open": True},
                    ],
                }
            ]
        }
    ).suites[0]  # fmt: skip
    suite = items(*(f"the printer number {n} is out of paper" for n in range(5)), "my screen is dark")
    made = edge_items(suite, spec.items, spec.seed, spec.attacks, spec.variants)
    by_kind = {
        kind: {item.messages[-1].content for item in made if item.category == kind}
        for kind in ("typos", "german", "angry", "cut")
    }
    assert by_kind["german"] == {f"printer Nummer {n} hat kein Papier mehr" for n in range(5)}
    assert "my screen is dark!!! WHERE IS {MY} MONEY" in by_kind["angry"]
    assert len(made) == 6 + 5 + 6 + 6
    assert {(item.answer, item.open) for item in made if item.category == "cut"} == {("", True)}
    assert next(item for item in made if item.category == "angry").item_id.startswith("edge:angry:i")
    with pytest.raises(InvalidInput, match="'german' fits no question"):
        edge_items(items("else"), 10, 0, (), spec.variants)
    with pytest.raises(InvalidInput, match="an attack 'typos' already"):
        edge_items(suite, 10, 0, (), (VariantSpec(name="typos", says=("x",)),))


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ({"name": "x", "says": ["{what}"]}, "neither {text} nor a group"),
        ({"name": "x", "match": "(", "says": ["{text}"]}, "no regular expression"),
        ({"name": "x", "says": []}, "at least 1"),
    ],
)
def test_a_template_that_names_what_is_not_there_is_refused(variant: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        VariantSpec.model_validate(variant)
    with pytest.raises(ValidationError, match="only a suite of kind edge"):
        EvaluationSpec.model_validate({"suites": [{"kind": "general", "variants": [{"name": "x", "says": ["y"]}]}]})
