"""The form an answer must take: a JSON Schema, any JSON object, or calls of the tools offered."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from libs.contracts.errors import InvalidInput

AUTO, NONE, REQUIRED = "auto", "none", "required"
_NAME = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
_MAX_TOOLS = 128
_MAX_JSON = 65_536
_ANY_OBJECT: Mapping[str, Any] = {"type": "object"}


@dataclass(frozen=True, slots=True)
class Form:
    """What an answer must look like. `json_schema` and `tools` are JSON texts; `tool_choice` may be a tool's name."""

    json_schema: str = ""
    json_object: bool = False
    tools: str = ""
    tool_choice: str = AUTO
    single_call: bool = False

    @property
    def offers_tools(self) -> bool:
        """Whether the answer may be a call."""
        return bool(self.tools) and self.tool_choice != NONE

    @property
    def free(self) -> bool:
        """Whether anything goes."""
        return not (self.json_schema or self.json_object or self.tools)

    def check(self) -> None:
        """Raise InvalidInput naming the field that asks for what cannot be."""
        if self.json_schema:
            check_schema(self.json_schema, "response_format")
        names = [each["function"]["name"] for each in check_tools(self.tools)]
        if self.tool_choice not in (AUTO, NONE, REQUIRED, *names):
            offered = ", ".join(names) or "none"
            raise InvalidInput(f"{self.tool_choice[:64]!r} is not a tool offered ({offered})", field="tool_choice")
        if self.tool_choice == REQUIRED and not names:
            raise InvalidInput("asks for a call, but no tools are offered", field="tool_choice")
        if (self.json_schema or self.json_object) and self.offers_tools and self.tool_choice != AUTO:
            raise InvalidInput("cannot be had together with a call of a tool", field="response_format")

    def constraint(self) -> str:
        """The JSON Schema that decoding is held to; empty where the answer is free or any JSON object.

        A named tool: the schema of its arguments. `required`: a list of calls. `auto`: nothing is forced.
        """
        if not self.offers_tools or self.tool_choice == AUTO:
            return self.json_schema
        functions = [each["function"] for each in json.loads(self.tools)]
        if self.tool_choice != REQUIRED:
            chosen = next(each for each in functions if each["name"] == self.tool_choice)
            return json.dumps(chosen.get("parameters") or _ANY_OBJECT)
        calls: dict[str, Any] = {
            "type": "array",
            "minItems": 1,
            "items": {"anyOf": [_call(each) for each in functions]},
        }
        if self.single_call:
            calls["maxItems"] = 1
        return json.dumps(calls)


FREE = Form()
"""Anything goes."""


def check_schema(text: str, field: str) -> None:
    """Raise InvalidInput unless `text` is a JSON Schema of bearable size, an object at its top."""
    if len(text) > _MAX_JSON:
        raise InvalidInput(f"the schema has more than {_MAX_JSON} characters", field=field)
    try:
        held = json.loads(text)
    except (ValueError, RecursionError) as failure:
        raise InvalidInput(f"the schema is not JSON: {failure}", field=field) from failure
    if not isinstance(held, dict):
        raise InvalidInput("the schema must be a JSON object", field=field)


def check_tools(text: str) -> list[dict[str, Any]]:
    """The definitions in a JSON list of tools; InvalidInput names the place that is wrong."""
    if not text:
        return []
    if len(text) > _MAX_JSON:
        raise InvalidInput(f"the tools have more than {_MAX_JSON} characters", field="tools")
    try:
        held = json.loads(text)
    except (ValueError, RecursionError) as failure:
        raise InvalidInput(f"is not JSON: {failure}", field="tools") from failure
    if not isinstance(held, list) or not 1 <= len(held) <= _MAX_TOOLS:
        raise InvalidInput(f"must be a list of 1 to {_MAX_TOOLS} tools", field="tools")
    names: list[str] = []
    for number, tool in enumerate(held):
        names.append(_check_tool(tool, f"tools.{number}"))
    _refuse_twice(names)
    return held


def _check_tool(tool: object, place: str) -> str:
    if not isinstance(tool, dict) or tool.get("type") != "function" or not isinstance(tool.get("function"), dict):
        raise InvalidInput("must be an object of type 'function' with a function", field=place)
    function = tool["function"]
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.match(name):
        raise InvalidInput("must be 1 to 64 letters, digits, '_' or '-'", field=f"{place}.function.name")
    if not isinstance(function.get("parameters") or {}, dict):
        raise InvalidInput("must be a JSON Schema", field=f"{place}.function.parameters")
    return name


def _refuse_twice(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen or name in (AUTO, NONE, REQUIRED):
            raise InvalidInput(f"the name {name!r} is taken", field="tools")
        seen.add(name)


def _call(function: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "name": {"type": "string", "enum": [function["name"]]},
            "arguments": function.get("parameters") or _ANY_OBJECT,
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
