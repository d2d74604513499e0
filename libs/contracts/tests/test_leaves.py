"""What is said in a text that is JSON is found and rewritten as it was meant, and the rest stays as it was written."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.contracts.leaves import leaves_of, rewritten

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "leaves"),
    [
        ("in words", [("in words", "")]),
        ('{"a": ["x\\ny", 7, true], "b": -1.50}',
         [("a", ""), ("x\ny", "a"), ("7", ""), ("b", ""), ("-1.50", "b")]),
        ('```json\n{"a": "b"}\n```', [("a", ""), ("b", "a")]),
        ('"one\\tword"', [("one\tword", "")]),
        (json.dumps({"call": json.dumps({"to": "a\nb"})}), [("call", ""), ("to", "call"), ("a\nb", "to")]),
        ('{"a": "x", and so on}', [('{"a": "x", and so on}', "")]),
        ("7", [("7", "")]),
        ('{"half": "\\ud83d"}', [("half", ""), ("\ufffd", "half")]),
    ],
)  # fmt: skip
def test_the_leaves_of_a_text(text: str, leaves: list[tuple[str, str]]) -> None:
    assert leaves_of(text) == leaves


def test_only_what_is_changed_is_written_anew() -> None:
    text = '```json\n{ "n": 1e5,\n  "n": "\\u00e9", "card": 4111, "half": "\\ud83d", "to": ["a\\nb"] }\n```'
    names = {"4111": "<CARD>", "a\nb": 'a\n"B"'}
    now = rewritten(text, lambda leaf, _: names.get(leaf, leaf))
    assert now == text.replace("4111", '"<CARD>"').replace("a\\nb", 'a\\n\\"B\\"')


@settings(deadline=None)
@given(_VALUES, st.booleans())
def test_json_stays_the_json_it_was(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert rewritten(text, lambda leaf, _: leaf) == text
    changed = rewritten(text, lambda leaf, _: f"{leaf}!\n")
    if isinstance(value, dict | list | str):
        json.loads(changed)
