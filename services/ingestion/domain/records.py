"""A record of an imported file becomes a row, or says in which field it is wrong."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from libs.contracts.ids import versioned
from services.ingestion.domain import shapes
from services.ingestion.domain.columns import Columns
from services.ingestion.domain.faults import BadRowError, json_type, name_fault
from services.ingestion.domain.rows import EXAMPLE, Row, hashed_user, stable_id

_SECONDS = re.compile(r"[0-9]{9,11}(?:\.[0-9]+)?")
"""Seconds since 1970 as a table without types has them; eight digits are a day (ISO 8601)."""
_YES = {"true": True, "1": True, "yes": True, "y": True, "false": False, "0": False, "no": False, "n": False}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the records of one import come from; `imported_at` stands in for a missing creation time."""

    tenant: str
    name: str
    source: str
    imported_at: datetime


def row_of(record: Mapping[str, Any], number: int, columns: Columns, origin: Origin) -> Row:
    """The row of record `number`; BadRowError names the field.

    Its id derives from the import's name, the content and the record's own id, else its place in the file: importing
    the file again gives the same ids. With another consent, licence or user it is another version of the same record.
    """
    category = _name(record, columns.category, "category")
    example = columns.read(record)
    if example.output is None and example.rejected is None:
        # What a conversation is about is an answer only where nobody gives any: there it is what is to be learnt.
        if category is None or columns.answered:
            place = columns.output if columns.answered else columns.category or columns.output
            raise BadRowError(place or "messages", "there is no answer to learn")
        example = shapes.completed(example, category)
    for place, whole in (
        ("messages", example.messages),
        ("tools", example.tools),
        ("rejected", example.rejected_messages),
    ):
        if whole is not None and not whole.isascii() and any("\ud800" <= each <= "\udfff" for each in whole):
            raise BadRowError(place, "holds half a surrogate pair")
    own_id = _name(record, columns.id, "id")
    group = _name(record, columns.group, "group")
    user = _name(record, columns.user, "user")
    parts = (
        origin.name, own_id or number, example.system or "", example.history or "", example.input,
        example.output or "", category or "", group or "",
    )  # fmt: skip
    told = (example.rejected, example.label, example.messages, example.tools)
    row_id = stable_id("imp", *parts, *(told if any(each is not None for each in told) else ()))
    terms = (_yes(record, columns.consent), _name(record, columns.licence, "licence"), user)
    if any(each is not None for each in terms):
        row_id = versioned(row_id, *terms)
    return Row(
        row_id=row_id,
        kind=EXAMPLE,
        source=origin.source,
        system=example.system,
        history=example.history,
        input=example.input,
        output=example.output,
        rejected=example.rejected,
        category=category,
        group=group,
        user=hashed_user(origin.tenant, user),
        signal="bad" if example.label is False else "good",
        consent=terms[0],
        licence=terms[1],
        created_at=_moment(record, columns.created_at) or origin.imported_at,
        arrived_at=origin.imported_at,
        messages=example.messages,
        tools=example.tools,
        rejected_messages=example.rejected_messages,
        form=example.form,
        label=example.label,
    )


def _name(record: Mapping[str, Any], column: str | None, field: str) -> str | None:
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


def _yes(record: Mapping[str, Any], column: str | None) -> bool | None:
    value = record.get(column) if column is not None else None
    if value is None or value == "" or isinstance(value, bool):
        return value if isinstance(value, bool) else None
    word = str(value).strip().lower() if isinstance(value, (str, int)) else ""
    if word not in _YES:
        raise BadRowError(column or "consent", f"must be true or false, not {json_type(value)} {str(value)[:40]!r}")
    return _YES[word]


def _moment(record: Mapping[str, Any], column: str | None) -> datetime | None:
    value = record.get(column) if column is not None else None
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str) and _SECONDS.fullmatch(value.strip()):
            value = float(value)
        if isinstance(value, datetime):
            moment = value
        elif isinstance(value, date):
            moment = datetime(value.year, value.month, value.day, tzinfo=UTC)
        elif isinstance(value, str):
            moment = datetime.fromisoformat(value.strip())
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            moment = datetime.fromtimestamp(value, UTC)
        else:
            raise ValueError
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        raise BadRowError(column or "created_at", "is neither an ISO 8601 time nor seconds since 1970") from None
