"""A value has one name wherever it stands; redacted JSON stays JSON, and no way of writing a value in it hides it."""

import json
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.contracts.pseudonyms import SURROGATE, TOKEN, Pseudonyms
from services.ingestion.compute.redaction import Redaction
from services.ingestion.compute.segments import ROWS
from services.ingestion.domain import personal
from services.ingestion.domain.personal import KINDS, redact
from services.ingestion.tests.test_judgement import correction, heard

HELD = {
    "email": "bob@example.com",
    "iban": "DE89370400440532013000",
    "card": "4111 1111 1111 1111",
    "ip": "10.1.2.3",
    "phone": "+49 30 1234567",
}


def redacted(text: str, style: str = TOKEN, column: str = "history") -> dict[str, Any]:
    columns: dict[str, Any] = {name: [None] for name in ROWS.names} | {column: [text]}
    Redaction(KINDS, b"k", style).apply(columns)
    return {name: values[0] for name, values in columns.items()}


def name_of(kind: str, style: str = TOKEN) -> str:
    return Pseudonyms(b"k", style).name(kind, HELD[kind])


@pytest.mark.parametrize("style", [TOKEN, SURROGATE])
@pytest.mark.parametrize("column", ["history", "messages", "rejected_messages", "output"])
def test_a_value_after_an_escape_has_the_name_it_has_everywhere_and_json_stays_json(style: str, column: str) -> None:
    for before in ("\n", "\t", "\r", '"', "\\", "\u0007", "\u2028"):
        said = before.join(["", *HELD.values(), ""])
        now = redacted(json.dumps([{"role": "user", "content": said}], ensure_ascii=False), style, column)
        content = json.loads(now[column])[0]["content"]
        assert content == before.join(["", *(name_of(kind, style) for kind in HELD), ""])
        assert json.loads(now["personal"]) == dict.fromkeys(HELD, 1)


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(each):04x}" for each in text)


@pytest.mark.parametrize("kind", HELD)
def test_a_value_written_in_escapes_is_seen(kind: str) -> None:
    now = redacted(f'{{"a": "x {escaped(HELD[kind])}", "b": 1.50}}')
    assert json.loads(now["history"]) == {"a": f"x {name_of(kind)}", "b": 1.5}
    assert now["history"].endswith(', "b": 1.50}')
    assert json.loads(redacted('{"a": "030\\/1234567"}')["history"])["a"].startswith("<PHONE_")


def test_the_arguments_of_a_call_are_json_within_json() -> None:
    arguments = json.dumps({"to": f"\n{HELD['email']}", "card": 4111111111111111, "note": "ok"})
    text = json.dumps([{"tool_calls": [{"function": {"name": "mail", "arguments": arguments}}]}])
    (now,) = json.loads(redacted(text, column="messages")["messages"])
    told = json.loads(now["tool_calls"][0]["function"]["arguments"])
    assert told == {"to": f"\n{name_of('email')}", "card": name_of("card"), "note": "ok"}
    surrogate = redacted('{"card": 4111111111111111}', SURROGATE, "output")["output"]
    assert json.loads(surrogate)["card"] not in (4111111111111111, "4111111111111111")


def test_half_a_character_and_what_only_looks_like_json_are_redacted_too() -> None:
    assert json.loads(redacted(f'["\\ud83d {HELD["email"]}"]')["history"]) == [f"\ufffd {name_of('email')}"]
    for text in ('{"a": {}', "[{}]" + "[" * 100_000, '"{}" is it'):
        now = redacted(text.replace("{}", HELD["email"]), column="output")["output"]
        assert now == text.replace("{}", name_of("email"))


def test_personal_data_has_one_name_per_task_and_the_judgement_says_no_more_than_the_row() -> None:
    columns: dict[str, Any] = {name: [None] * 3 for name in ROWS.names}
    columns["input"] = ["call +49 170 1234567", "nothing 12 here", "mail Ada@Example.org"]
    columns["output"] = ["DE89 3704 0044 0532 0130 00", "fine", "ada@example.org from 10.0.0.12"]
    own = heard(correction("ada@example.org from 10.0.0.12"))
    columns["judgement"] = [None, heard(correction("or\nada@example.org")), own]
    Redaction(KINDS, b"t").apply(columns)
    name = Pseudonyms(b"t").name("email", "ada@example.org")
    assert columns["input"][1:] == ["nothing 12 here", f"mail {name}"]
    assert columns["input"][0].startswith("call <PHONE_")
    assert columns["output"][0].startswith("<IBAN_")
    assert columns["judgement"][2] == msgspec.structs.replace(own, output=columns["output"][2])
    # What an earlier signal said stands in the judgement alone.
    assert (columns["judgement"][1].output, columns["judgement"][1].rejected) == (f"or\n{name}", "wrong")
    assert columns["personal"] == ['{"iban": 1, "phone": 1}', None, '{"email": 2, "ip": 1}']
    assert Pseudonyms(b"other").name("email", "ada@example.org") != name


def test_surrogates_are_listed_beside_the_row_since_they_look_like_values() -> None:
    columns: dict[str, Any] = {name: [None] * 3 for name in ROWS.names}
    columns["input"] = ["call +49 170 1234567", "nothing", "ask"]
    columns["judgement"] = [None, None, heard(correction("mail ada@example.org"))]
    Redaction(KINDS, b"t", SURROGATE).apply(columns)
    names = Pseudonyms(b"t", SURROGATE)
    phone, mail = names.name("phone", "+49 170 1234567"), names.name("email", "ada@example.org")
    assert columns["input"][0] == f"call {phone}"
    assert columns["pseudonyms"] == [json.dumps([phone]), None, json.dumps([mail])]
    tokens: dict[str, Any] = {name: [None] for name in ROWS.names} | {"input": ["call +49 170 1234567"]}
    Redaction(KINDS, b"t").apply(tokens)
    assert tokens["pseudonyms"] == [None]


def test_what_the_policy_keeps_stays() -> None:
    assert redact("a@b.example 4111 1111 1111 1111", ("card",), Pseudonyms(b"k"))[0].startswith("a@b.example <CARD_")


_SHAPES = [rf"(?a:{pattern.pattern})" for pattern, _ in personal._RULES.values()]


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(*(st.from_regex(shape) for shape in _SHAPES), st.text(max_size=20), st.just(" ")), max_size=4
    ).map("".join)
)
def test_no_text_that_holds_personal_data_is_passed_over(text: str) -> None:
    found = {kind for kind, _, _ in redact(text, KINDS, Pseudonyms(b"k"))[1]}
    arrow = pa.array([text.encode("utf-8", "replace").decode()])
    shown = {kind for kind, sign in personal.SIGNS.items() if pc.match_substring_regex(arrow, sign)[0].as_py()}
    if text.isascii():
        assert found <= shown
