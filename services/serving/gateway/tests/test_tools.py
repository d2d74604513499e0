"""Calls of tools in a model's text, however it is cut into pieces."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.contracts.errors import InvalidInput
from services.serving.gateway.domain import Form, ToolReader

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = json.dumps([{"type": "function", "function": {"name": name, "parameters": PARAMETERS}} for name in ("a", "b")])
CALL = '<tool_call>\n{"name": "a", "arguments": {"city": "Ulm"}}\n</tool_call>'


def read(form: Form, text: str, cuts: list[int], finish: str = "stop") -> tuple[str, list[tuple[str, str]], str]:
    reader, shown, start = ToolReader(form, "r.0"), "", 0
    for cut in sorted({min(cut, len(text)) for cut in cuts}):
        piece, calls, _ = reader.feed(text[start:cut], "")
        assert not calls
        shown += piece
        start = cut
    piece, calls, told = reader.feed(text[start:], finish)
    return shown + piece, [(call.name, call.arguments) for call in calls], told


@example(cuts=[3])
@given(cuts=st.lists(st.integers(0, 200), max_size=30))
def test_a_call_is_found_however_the_text_is_cut(cuts: list[int]) -> None:
    shown, calls, told = read(Form(tools=TOOLS), f"Let me look. {CALL}{CALL}", cuts)
    assert shown.strip() == "Let me look."
    assert [(name, json.loads(arguments)) for name, arguments in calls] == [("a", {"city": "Ulm"})] * 2
    assert told == "tool_calls"


@given(text=st.text(alphabet='<tol_ca>/{}"x', max_size=60), cuts=st.lists(st.integers(0, 60), max_size=10))
def test_what_is_no_call_is_shown_to_the_last_character(text: str, cuts: list[int]) -> None:
    assert read(Form(tools=TOOLS), text, cuts) == (text, [], "stop")


def test_text_flows_while_it_cannot_be_a_call() -> None:
    reader = ToolReader(Form(tools=TOOLS), "r.0")
    assert reader.feed("a < b, ", "")[0] == "a < b, "
    assert reader.feed("and <tool", "")[0] == "and "
    assert reader.feed("box>", "")[0] == "<toolbox>"


def test_a_call_asked_for_is_the_whole_text() -> None:
    listed = json.dumps([{"name": "b", "arguments": {"city": "Ulm"}}])
    assert read(Form(tools=TOOLS, tool_choice="required"), listed, [3, 9])[1] == [("b", '{"city": "Ulm"}')]
    assert read(Form(tools=TOOLS, tool_choice="b"), '{"city":"Ulm"}', [4])[1] == [("b", '{"city":"Ulm"}')]


def test_a_call_cut_off_by_the_length_limit_says_so_and_is_not_lost() -> None:
    assert read(Form(tools=TOOLS, tool_choice="b"), '{"city":"U', [], "length") == ("", [("b", '{"city":"U')], "length")
    assert read(Form(tools=TOOLS, tool_choice="required"), '[{"na', [], "length") == ('[{"na', [], "length")


def test_one_call_at_most_leaves_the_second_as_text() -> None:
    shown, calls, _ = read(Form(tools=TOOLS, single_call=True), CALL + CALL, [])
    assert (shown, len(calls)) == (CALL, 1)


def test_what_decoding_is_held_to_follows_the_choice() -> None:
    schema = json.dumps(PARAMETERS)
    assert Form(tools=TOOLS).constraint() == ""
    assert Form(tools=TOOLS, tool_choice="none", json_schema=schema).constraint() == schema
    assert json.loads(Form(tools=TOOLS, tool_choice="a").constraint()) == PARAMETERS
    held = json.loads(Form(tools=TOOLS, tool_choice="required", single_call=True).constraint())
    assert (held["maxItems"], len(held["items"]["anyOf"])) == (1, 2)


@pytest.mark.parametrize(
    ("form", "field"),
    [
        (Form(tools="["), "tools"),
        (Form(tools="{}"), "tools"),
        (Form(tools='[{"type":"function"}]'), "tools.0"),
        (Form(tools='[{"type":"function","function":{"name":"a b"}}]'), "tools.0.function.name"),
        (Form(tools=TOOLS, tool_choice="c"), "tool_choice"),
        (Form(tool_choice="required"), "tool_choice"),
        (Form(json_schema="[]"), "response_format"),
        (Form(json_schema="[" * 50_000), "response_format"),
        (Form(tools=TOOLS, tool_choice="a", json_schema="{}"), "response_format"),
    ],
)
def test_a_form_that_cannot_be_is_named(form: Form, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        form.check()
    assert refused.value.field == field
