"""Messages with tools, as a dataset holds them, become what a template is given."""

from typing import Any

import pytest

from libs.contracts.errors import InvalidInput
from libs.contracts.tooling import in_form, read_message

CALL = {"id": "1", "type": "function", "function": {"name": "find", "arguments": '{"order": "7"}'}}
TALK: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "text", "text": "where is "}, {"type": "text", "text": "my order 7?"}]},
    {"role": "assistant", "content": None, "tool_calls": [CALL], "weight": 1},
    {"role": "tool", "tool_call_id": "1", "content": "at the harbour"},
    {"role": "assistant", "content": None, "refusal": "I may not say."},
]
TOOLS = [{"type": "function", "function": {"name": "find"}}]


def test_parts_calls_results_and_refusals_are_read() -> None:
    asked, called, told, refused = [read_message(each) for each in TALK]
    assert asked.content == "where is my order 7?"
    assert (called.content, called.tool_calls[0].name, called.tool_calls[0].arguments) == ("", "find", '{"order": "7"}')
    assert (told.role, told.tool_call_id, refused.content) == ("tool", "1", "I may not say.")
    given = {"role": "assistant", "tool_calls": [{"id": "2", "name": "find", "arguments": {"order": "é"}}]}
    assert read_message(given).tool_calls[0].arguments == '{"order": "é"}'


def test_a_template_that_knows_tools_is_given_them_and_another_reads_them_as_text() -> None:
    messages = [read_message(each) for each in TALK]
    known = in_form("{{ tools }}", messages, TOOLS)
    assert known[1]["tool_calls"][0]["function"] == {"name": "find", "arguments": {"order": "7"}}
    assert [each["role"] for each in known] == ["user", "assistant", "tool", "assistant"]
    plain = in_form("{{ messages }}", messages, TOOLS)
    assert [each["role"] for each in plain] == ["system", "user", "assistant", "user", "assistant"]
    assert plain[2]["content"] == '<tool_call>\n{"name": "find", "arguments": {"order": "7"}}\n</tool_call>'
    assert all(isinstance(each["content"], str) and set(each) == {"role", "content"} for each in plain)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "messages.3.content.0"),
        ({"role": "user", "content": 7}, "messages.3"),
        ({"content": "nobody says it"}, "messages.3"),
        ({"role": "assistant", "tool_calls": [{"id": "1"}]}, "messages.3.tool_calls"),
    ],
)
def test_what_cannot_be_read_is_named(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        read_message(wrong, "messages.3")
    assert raised.value.field == field
