"""What can be wrong with one value of a record, and the error that names its place."""

from libs.contracts.feedback import MAX_TEXT

MAX_NAME = 200


class BadRowError(Exception):
    """One record cannot be taken; `field` names the place (empty: the whole record)."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


def text_fault(value: object, *, limit: int = MAX_TEXT) -> str | None:
    """Why `value` cannot stand where text is due, or None."""
    if value is None:
        return "is missing"
    if not isinstance(value, str):
        return f"must be text, not {json_type(value)}"
    if not value or value.isspace():
        return "is empty"
    if len(value) > limit:
        return f"has {len(value)} characters, more than {limit}"
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        return "holds half a surrogate pair"
    return "holds a NUL character" if "\x00" in value else None


def name_fault(value: object) -> str | None:
    """Why `value` cannot be a label (category, id, group, user), or None; labels are keys of the database."""
    return text_fault(value, limit=MAX_NAME)


def need_text(value: object, place: str) -> str:
    """The value as text; BadRowError names its place."""
    fault = text_fault(value)
    if fault is not None:
        raise BadRowError(place, fault)
    return str(value)


def json_type(value: object) -> str:
    """What JSON calls a value of this kind."""
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case bytes():
            return "bytes that are no UTF-8"
        case list() | tuple():
            return "a list"
        case dict():
            return "an object"
        case None:
            return "null"
        case _:
            return type(value).__name__
