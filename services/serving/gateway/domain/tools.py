"""Calls of tools read out of a model's text, while it streams.

The rule: with a free choice a call is what stands between `<tool_call>` and `</tool_call>` (the form of Hermes and
Qwen): a JSON object with `name` and `arguments`. Where a call was asked for, decoding is held to JSON and the whole
text is the call or the list of calls. What cannot be read as a call stays text: nothing that a model said is dropped.
"""

import hashlib
import json
import re
from typing import Any

from libs.contracts.inference import ToolCall
from services.serving.gateway.domain.form import AUTO, REQUIRED, Form

OPEN, CLOSE = "<tool_call>", "</tool_call>"
TOOL_CALLS = "tool_calls"
_BLOCK = re.compile(re.escape(OPEN) + r"(.*?)(?:" + re.escape(CLOSE) + r"|\Z)", re.DOTALL)


class ToolReader:
    """Reads one answer: `feed` what comes, get what may be shown and, with the end, the calls."""

    def __init__(self, form: Form, answer_id: str) -> None:
        """`answer_id` makes the ids of the calls, the same again for the same answer."""
        self._form = form
        self._answer_id = answer_id
        self._forced = form.offers_tools and form.tool_choice != AUTO
        self._held = ""

    def feed(self, text: str, finish_reason: str) -> tuple[str, tuple[ToolCall, ...], str]:
        """Text to show, calls and finish reason; calls come with the finish reason `tool_calls`."""
        if not self._form.offers_tools:
            return text, (), finish_reason
        self._held += text
        if not finish_reason:
            return ("" if self._forced else self._free_part()), (), ""
        shown, calls = self._forced_calls() if self._forced else self._tagged_calls()
        self._held = ""
        told = TOOL_CALLS if calls and finish_reason == "stop" else finish_reason
        return shown, calls, told

    def _free_part(self) -> str:
        """What cannot become a call any more: everything before the first tag, or before what may be its beginning."""
        cut = self._held.find(OPEN)
        if cut < 0:
            cut = len(self._held)
            for length in range(min(len(OPEN) - 1, len(self._held)), 0, -1):
                if self._held.endswith(OPEN[:length]):
                    cut -= length
                    break
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def _tagged_calls(self) -> tuple[str, tuple[ToolCall, ...]]:
        calls: list[ToolCall] = []
        shown: list[str] = []
        end = 0
        for block in _BLOCK.finditer(self._held):
            shown.append(self._held[end : block.start()])
            read = _object(block[1])
            call = self._call(read, len(calls)) if read is not None else None
            if call is None or (self._form.single_call and calls):
                shown.append(block[0])
            else:
                calls.append(call)
            end = block.end()
        shown.append(self._held[end:])
        text = "".join(shown)
        return (text.rstrip() if calls else text), tuple(calls)

    def _forced_calls(self) -> tuple[str, tuple[ToolCall, ...]]:
        if self._form.tool_choice != REQUIRED:
            return "", (ToolCall(id=self._id(0), name=self._form.tool_choice, arguments=self._held.strip()),)
        try:
            listed = json.loads(self._held)
        except (ValueError, RecursionError):
            return self._held, ()
        found = [self._call(each, number) for number, each in enumerate(listed)] if isinstance(listed, list) else []
        calls = tuple(each for each in found if each is not None)
        return ("", calls) if calls and len(calls) == len(found) else (self._held, ())

    def _call(self, read: Any, number: int) -> ToolCall | None:
        if not isinstance(read, dict) or not isinstance(read.get("name"), str):
            return None
        arguments = read.get("arguments", read.get("parameters", {}))
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        return ToolCall(id=self._id(number), name=read["name"], arguments=arguments)

    def _id(self, number: int) -> str:
        return "call_" + hashlib.sha256(f"{self._answer_id}\0{number}".encode()).hexdigest()[:24]


def _object(text: str) -> dict[str, Any] | None:
    try:
        held = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return held if isinstance(held, dict) else None
