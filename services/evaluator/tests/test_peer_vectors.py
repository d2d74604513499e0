"""More of the peers' own vectors: lighteval, sacrebleu, JSONTestSuite, JSON-Schema-Test-Suite."""

from typing import Any

import pytest

from libs.contracts.answers import strict_json
from libs.contracts.task import OutputSpec
from services.evaluator.domain.metrics import exact, fields, overlap, rouge
from services.evaluator.domain.scoring import validity
from services.evaluator.tests.test_metrics import corpus, one

FOX = "The quick brown fox jumps over the lazy dog"
FLOWERS = [
    "Les belles fleurs fleurissent dans le jardin aujourd'hui",
    "Mi familia y yo fuimos a la playa el fin de semana pasado",
    "Die Kinder spielen mit ihren neuen Spielzeugen im Park",
]


# huggingface/lighteval tests/unit/metrics/test_cases/: chrf.json, chrf_plus.json. Its values come from references
# handed over the wrong way round (its own test_corpus_translation_metrics.py says so): each is that of
# the first pair alone.
@pytest.mark.parametrize(
    ("text", "reference", "word_order", "wanted"),
    [
        ("Bonjour le monde", "Bonjour le monde", 0, 100.0),
        ("Le rapide renard brun", "Le renard brun rapide", 0, 78.84),
        ("Le soleil", "Le soleil est brillant", 0, 37.68),
        ("Il pleut beaucoup", "Le temps est agréable", 0, 7.72),
        ("Bonjour le monde", "Bonjour le monde", 2, 100.0),
        ("Le renard rapide", "Le renard brun rapide", 2, 58.82),
    ],
)
def test_chrf_equals_lightevals_published_values(text: str, reference: str, word_order: int, wanted: float) -> None:
    assert 100 * corpus(overlap.chrf(word_order=word_order), [text], [reference]) == pytest.approx(wanted, abs=0.01)


def test_corpus_bleu_of_a_perfect_translation_is_one() -> None:
    assert corpus(overlap.bleu(), FLOWERS, FLOWERS) == pytest.approx(1.0)


# mjpost/sacrebleu test/test_chrf.py (sentence level) and test_bleu.py (effective order).
@pytest.mark.parametrize(
    ("text", "reference", "wanted"),
    [
        (
            "Co nás nejvíc trápí, protože lékaři si vybírají, kdo bude žít a kdo zemře.",
            "Nejvíce smutní jsme z toho, že musíme rozhodovat o tom, kdo bude žít a kdo zemře.",
            39.14078509,
        ),
        (
            "Nebo prostě nemají vybavení, které by jim pomohlo, uvedli lékaři.",
            "A někdy nemáme ani potřebný materiál, abychom jim pomohli, popsali lékaři.",
            31.22557079,
        ),
        (
            "Lapali po dechu, jejich životy skončily dřív, než skutečně začaly.",
            "Lapali po dechu a pak jejich život skončil - dřív, než skutečně mohl začít, připomněli.",
            57.15704367,
        ),
    ],
)
def test_sentence_chrf_equals_sacrebleus_published_values(text: str, reference: str, wanted: float) -> None:
    # Published with a little smoothing of orders without a match, which is not our signature: hence the tolerance.
    assert 100 * one(overlap.chrf(), text, reference) == pytest.approx(wanted, abs=5e-4)


def test_short_sentences_count_the_orders_they_have_as_sacrebleu_publishes() -> None:
    assert one(overlap.bleu(), "test", "a test") == pytest.approx(0.3678794411714425, abs=1e-8)
    assert one(overlap.bleu(), "a test", "a test") == pytest.approx(1.0)
    assert one(overlap.bleu(), "this is a test", "this is a test") == pytest.approx(1.0)


# huggingface/lighteval, the same place: exact_match.json, f1_score.json (where a case names a wide tolerance the value
# itself is ours by arithmetic: 2 * 9 / 21), rouge1.json, rouge2.json, rougeL.json, rougeLsum.json.
def test_exact_match_equals_lightevals_published_cases() -> None:
    assert one(exact.exact_match(), "Paris", "Paris") == 1.0
    assert one(exact.exact_match(), "London", "Paris") == 0.0


@pytest.mark.parametrize(
    ("text", "wanted", "within"),
    [
        (FOX, 1.0, 1e-9),
        (f"{FOX} and runs fast", 18 / 21, 1e-9),
        ("The fox jumps over the dog", 0.8, 1e-9),
    ],
)
def test_token_f1_equals_lightevals_other_cases(text: str, wanted: float, within: float) -> None:
    assert one(fields.token_f1(), text, FOX) == pytest.approx(wanted, abs=within)


@pytest.mark.parametrize(
    ("variant", "text", "wanted", "within"),
    [
        ("1", FOX, 1.0, 1e-9),
        ("2", FOX, 1.0, 1e-9),
        ("2", "The quick brown fox", 0.5454, 1e-4),
        ("2", "The quick brown fox jumps", 0.666, 1e-3),
        ("L", FOX, 1.0, 1e-9),
        ("L", "The quick brown fox", 0.615, 1e-3),
        ("L", "The brown quick fox jumps over the dog lazy", 0.8, 0.03),
        ("Lsum", FOX, 1.0, 1e-9),
        ("Lsum", "The quick brown fox", 0.61, 0.01),
    ],
)
def test_rouge_equals_lightevals_published_values(variant: str, text: str, wanted: float, within: float) -> None:
    assert rouge.score(variant, FOX, text)[2] == pytest.approx(wanted, abs=within)


# nst/JSONTestSuite test_parsing: n_* must be refused, y_* taken (but for the two with duplicate keys, where an answer
# that says two things of one field says nothing).
@pytest.mark.parametrize(
    "text",
    [
        "[1 true]", '["": 1]', '[""],', "[,1]", "[1,,2]", '["x"]]', '["",]', '["x"', "[x", "[3[4]]", "[1:2]",
        "[-01]", "[-2.]", "[-1.0.]", "[.2e-3]", "[0.1.2]", "[0.3e+]", "[0e]", "[0E+]", "[1.0e-]", "[1 000.0]",
        "[9.e+3]", "[+1]", "[+Inf]", "[Inf]", "[NaN]", "[-NaN]", "[Infinity]", "[-Infinity]", "[-foo]", "[0x1]",
        "[012]", "[-00.0]", "[-00e0]", "[00.0]", "[00e0]", "[- 1]", "[1+2]", "[nul]", "[tru]", "[fals]",
        '{"x", null}', '{"x"::"b"}', '{"a":"a" 123}', "{key: 'value'}", '{"id":0,}', '{"a":/*comment*/"b"}',
        "{1:1}", "{'a':0}", '{"a":"b",,"c":"d"}', '{"a":"b"}#', '{"a" "b"}', '{a: "b"}',
        '["\\uD800\\u"]', '["\\u00A"]', '["\\x00"]', '["\\a"]', '["\\\U0001f300"]', '["new\nline"]', '["\t"]',
        '["a\x00a"]', "['single quote']", '"', '"x', "[\\n]", '["\\060"]', "", "*", "[<null>]", "{}}", "[1]x", "{[",
        "2@", "aå", "\ufeff{}", "[\u2060]", '{"a":true} "x"',
    ],
)  # fmt: skip
def test_what_json_test_suite_refuses_is_no_json(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        strict_json(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[[]   ]", [[]]), ('[""]', [""]), ("[]", []), ("[false]", [False]), ('[null, 1, "1", {}]', [None, 1, "1", {}]),
        ("[1\n]", [1]), (" [1]", [1]), ("[1,null,null,null,2]", [1, None, None, None, 2]), ("[2] ", [2]),
        ("[123e65]", [123e65]), ("[0e+1]", [0.0]), ("[-0]", [0]), ("[1E+2]", [100.0]), ("[20e1]", [200.0]),
        ("[123.456e78]", [123.456e78]), ('{"":0}', {"": 0}), ('{"foo\\u0000bar": 42}', {"foo\x00bar": 42}),
        ('["\\u0060\\u012a\\u12AB"]', ["`Īካ"]), ('["\\uD801\\udc37"]', ["\U00010437"]),
        ('["\\"\\\\\\/\\b\\f\\n\\r\\t"]', ['"\\/\b\f\n\r\t']), ('["a/*b*/c/*d//e"]', ["a/*b*/c/*d//e"]),
        ('["\\\\u0000"]', ["\\u0000"]), ('["\u2028"]',
        ["\u2028"]), ("false", False), ("42", 42), ("-0.1", -0.1), ("null", None), ('"asd"', "asd"), ("true", True),
    ],
)  # fmt: skip
def test_what_json_test_suite_takes_is_read_by_value(text: str, value: object) -> None:
    assert strict_json(text.strip()) == value


def test_an_answer_with_duplicate_keys_is_refused_where_json_test_suite_leaves_it_open() -> None:
    for text in ('{"a":"b","a":"c"}', '{"a":"b","a":"b"}'):
        with pytest.raises(ValueError, match="duplicate key"):
            strict_json(text)


def fits(schema: dict[str, Any], text: str) -> bool:
    check = validity(OutputSpec.model_validate({"format": "json", "schema": schema}))
    assert check is not None
    return check(text)


# json-schema-org/JSON-Schema-Test-Suite tests/draft2020-12: prefixItems, items, unevaluatedProperties,
# dependentSchemas, minContains, if-then-else, enum, type, multipleOf, uniqueItems, propertyNames, $ref and siblings.
@pytest.mark.parametrize(
    ("schema", "taken", "refused"),
    [
        ({"prefixItems": [{"type": "integer"}, {"type": "string"}]}, '[1, "foo"]', '["foo", 1]'),
        ({"prefixItems": [{}, {}, {}], "items": False}, "[1, 2, 3]", "[1, 2, 3, 4]"),
        (
            {"properties": {"foo": {"type": "string"}}, "unevaluatedProperties": False},
            '{"foo": "foo"}', '{"foo": "foo", "bar": "bar"}',
        ),
        (
            {"dependentSchemas": {"bar": {"properties": {"foo": {"type": "integer"}}}}},
            '{"foo": "quux"}', '{"foo": "quux", "bar": 2}',
        ),
        ({"contains": {"const": 1}, "minContains": 2}, "[1, 1]", "[1]"),
        (
            {"if": {"exclusiveMaximum": 0}, "then": {"minimum": -10}, "else": {"multipleOf": 2}},
            "4", "-100",
        ),
        ({"enum": [[False]]}, "[false]", "[0]"),
        ({"const": False}, "false", "0"),
        ({"type": "integer"}, "1.0", "1.1"),
        ({"type": "number"}, "1", '"1"'),
        ({"multipleOf": 0.0001}, "0.0075", "0.00751"),
        ({"uniqueItems": True}, "[1, true]", "[1, 1.0]"),
        ({"propertyNames": {"maxLength": 3}}, '{"f": {}, "foo": {}}', '{"foo": {}, "foobar": {}}'),
        (
            {"$defs": {"reffed": {"type": "array"}}, "properties": {"foo": {"$ref": "#/$defs/reffed", "maxItems": 2}}},
            '{"foo": []}', '{"foo": [1, 2, 3]}',
        ),
        ({"maxLength": 2}, '"\U0001f4a9\U0001f4a9"', '"foo"'),
        ({"required": ["foo\\nbar"]}, '{"foo\\\\nbar": 1}', "{}"),
    ],
)  # fmt: skip
def test_validity_is_that_of_the_json_schema_test_suite(schema: dict[str, Any], taken: str, refused: str) -> None:
    assert fits(schema, taken)
    assert not fits(schema, refused)
