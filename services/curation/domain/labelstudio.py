"""The review queue as Label Studio sees it: tasks and a labelling configuration out, annotations back in."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from libs.contracts.errors import InvalidInput
from services.curation.domain.review import APPROVED, EDITED, REJECTED

CONFIG = """<View>
  <Header value="$kind: $reason"/>
  <Text name="asked" value="$input"/>
  <Text name="given" value="$answer"/>
  <Choices name="decision" toName="asked" choice="single-radio" required="true">
    <Choice value="approve"/><Choice value="edit"/><Choice value="reject"/>
  </Choices>
  <TextArea name="answer" toName="asked" value="$answer" editable="true" maxSubmissions="1"
            visibleWhen="choice-selected" whenTagName="decision" whenChoiceValue="edit"/>
  <TextArea name="category" toName="asked" value="$category" editable="true" maxSubmissions="1"
            visibleWhen="choice-selected" whenTagName="decision" whenChoiceValue="edit"/>
  <TextArea name="note" toName="asked" maxSubmissions="1"/>
</View>
"""
_STATES = {"approve": APPROVED, "edit": EDITED, "reject": REJECTED}
FIELDS = ("item_id", "row_id", "kind", "reason", "input", "answer", "category", "suggestion", "value")


def tasks(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Label Studio tasks of review items, in their order."""
    return [{"data": {name: item[name] if item[name] is not None else "" for name in FIELDS}} for item in items]


def decisions(export: str, by: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Decisions of a Label Studio JSON export, and what could not be read, each with its task.

    The last annotation of a task that was not cancelled counts. `by` stands in where an annotation names nobody.
    Raises InvalidInput when the export is no list of tasks.
    """
    try:
        listed = json.loads(export)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the export is not JSON: {error}", field="export") from error
    if not isinstance(listed, list):
        raise InvalidInput("the export is not a list of tasks; export as JSON, not JSON-MIN or CSV", field="export")
    found: list[dict[str, Any]] = []
    problems: list[str] = []
    for at, task in enumerate(listed):
        try:
            decision = _decision(task, by)
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
            problems.append(f"task {at}: {error}")
            continue
        if decision is not None:
            found.append(decision)
    return found, problems


def _decision(task: Mapping[str, Any], by: str) -> dict[str, Any] | None:
    if not isinstance(task, Mapping) or not isinstance(task.get("data"), Mapping) or "item_id" not in task["data"]:
        raise ValueError("is no task of ours: it lacks data.item_id; export as JSON, not JSON-MIN")
    name = str(task["data"]["item_id"])
    done = [each for each in task.get("annotations", []) if not each.get("was_cancelled")]
    if not done:
        return None
    last = done[-1]
    chosen = {str(result["from_name"]): result["value"] for result in last["result"]}
    choice = chosen.get("decision", {}).get("choices", [""])[0]
    if choice not in _STATES:
        raise ValueError(f"item {name}: the decision {choice!r} is none of {', '.join(_STATES)}")
    edited = _STATES[choice] == EDITED
    return {
        "item_id": name,
        "state": _STATES[choice],
        "by": _name(last.get("completed_by")) or by,
        "note": _text(chosen.get("note")) or "",
        "answer": _text(chosen.get("answer")) if edited else None,
        "category": _text(chosen.get("category")) if edited else None,
    }


def _text(value: Mapping[str, Any] | None) -> str | None:
    texts = value.get("text", []) if value else []
    if isinstance(texts, str):
        return texts
    return str(texts[-1]) if texts else None


def _name(who: Any) -> str:
    if isinstance(who, dict):
        return str(who.get("email") or who.get("username") or "")
    return f"label-studio user {who}" if who is not None else ""
