"""Redacted JSON stays JSON, and no way of writing a value in it hides the value or gives it another name."""

import json
from typing import Any

import pytest

from libs.contracts.pseudonyms import SURROGATE, TOKEN, Pseudonyms
from services.ingestion.compute.redaction import Redaction
from services.ingestion.compute.segments import ROWS
from services.ingestion.domain.personal import KINDS

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
    assert json.loads(redacted(f'["\\ud83d {HELD["email"]}"]')["history"]) == [f"\ud83d {name_of('email')}"]
    for text in ('{"a": {}', "[{}]" + "[" * 100_000, '"{}" is it'):
        now = redacted(text.replace("{}", HELD["email"]), column="output")["output"]
        assert now == text.replace("{}", name_of("email"))
