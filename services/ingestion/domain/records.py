"""A record of an imported file becomes a row, or says in which field it is wrong."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from libs.contracts.inference import Message
from services.ingestion.domain.columns import MESSAGES, Columns
from services.ingestion.domain.rows import EXAMPLE, Row, hashed_user, name_fault, prompt_of, stable_id, text_fault

_ROLES = ("system", "user", "assistant")
_MAX_TURNS = 200


class BadRowError(Exception):
    """One record cannot be taken; `field` names the column (empty: the whole record)."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the records of one import come from; `imported_at` stands in for a missing creation time."""

    tenant: str
    name: str
    source: str
    imported_at: datetime


def row_of(record: Mapping[str, object], number: int, columns: Columns, origin: Origin) -> Row:
    """The row of record `number`; BadRowError names the field.

    Its id derives from the import's name, the content and the record's own id, else its place in the file: importing
    the file again gives the same ids.
    """
    chat = MESSAGES in record and record.get(columns.input) is None
    category = _name(record, columns.category, "category")
    if chat:
        messages, answer = _conversation(record[MESSAGES])
        prompt = prompt_of(messages)
        system, history, asked = prompt.system, prompt.history, prompt.input
    else:
        system, history, answer = None, None, None
        asked = _text(record, columns.input)
        if columns.output is not None:
            answer = _text(record, columns.output)
    if answer is None:
        answer = category
    if answer is None:
        raise BadRowError(columns.category or columns.output or MESSAGES, "there is no answer to learn")
    own_id = _name(record, columns.id, "id")
    group = _name(record, columns.group, "group")
    user = _name(record, columns.user, "user")
    row_id = stable_id(
        "imp", origin.name, own_id or number, system or "", history or "", asked, answer, category or "", group or ""
    )
    return Row(
        row_id=row_id,
        kind=EXAMPLE,
        source=origin.source,
        system=system,
        history=history,
        input=asked,
        output=answer,
        category=category,
        group=group,
        user=hashed_user(origin.tenant, user),
        signal="good",
        created_at=_moment(record, columns.created_at) or origin.imported_at,
        arrived_at=origin.imported_at,
    )


def _text(record: Mapping[str, object], column: str) -> str:
    value = record.get(column)
    fault = text_fault(value)
    if fault is not None:
        raise BadRowError(column, fault)
    return str(value)


def _name(record: Mapping[str, object], column: str | None, field: str) -> str | None:
    """A short label; ids, groups and users may be whole numbers, a category may not."""
    value = record.get(column) if column is not None else None
    if value is None or value == "":
        return None
    if field != "category" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    fault = name_fault(value)
    if fault is not None:
        raise BadRowError(column or field, fault)
    return str(value).strip()


def _conversation(value: object) -> tuple[list[Message], str | None]:
    """The messages of the request and the final answer (None when the last message is the user's)."""
    if not isinstance(value, list) or not value:
        raise BadRowError(MESSAGES, "must be a list of messages")
    if len(value) > _MAX_TURNS:
        raise BadRowError(MESSAGES, f"has {len(value)} messages, more than {_MAX_TURNS}")
    messages = [_message(each, f"{MESSAGES}[{at}]") for at, each in enumerate(value)]
    answer = messages.pop().content if messages[-1].role == "assistant" else None
    if not messages or messages[-1].role != "user":
        raise BadRowError(MESSAGES, "the answer must follow a message of the user")
    return messages, answer


def _message(value: object, place: str) -> Message:
    if not isinstance(value, dict):
        raise BadRowError(place, "must be an object with role and content")
    role, content = value.get("role"), value.get("content")
    if role not in _ROLES:
        raise BadRowError(f"{place}.role", f"must be one of {', '.join(_ROLES)}, not {json.dumps(role)[:60]}")
    fault = text_fault(content)
    if fault is not None:
        raise BadRowError(f"{place}.content", fault)
    return Message(role=str(role), content=str(content))


def _moment(record: Mapping[str, object], column: str | None) -> datetime | None:
    value = record.get(column) if column is not None else None
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value.strip())
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            moment = datetime.fromtimestamp(value, UTC)
        else:
            raise ValueError
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        raise BadRowError(column or "created_at", "is neither an ISO 8601 time nor seconds since 1970") from None
