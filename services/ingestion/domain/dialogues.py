"""Dialogue as one text, as Anthropic published it: turns that begin with `Human:` and `Assistant:`."""

import re

from services.ingestion.domain.conversations import ASSISTANT, USER, Message
from services.ingestion.domain.faults import BadRowError

_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_ROLES = {"Human": USER, "Assistant": ASSISTANT}


def is_dialogue(text: str) -> bool:
    """Whether a text begins with a turn of a person and has one of the assistant."""
    return text.lstrip("\n").startswith("Human:") and "\n\nAssistant:" in text


def turns_of(text: str, place: str) -> list[Message]:
    """The turns, blank lines within them kept; BadRowError where the text begins with none."""
    before, *told = _TURN.split(text.lstrip("\n"))
    if before.strip() or not told:
        raise BadRowError(place, "must begin with a turn, 'Human:' or 'Assistant:'")
    return [{"role": _ROLES[who], "content": said.strip()} for who, said in zip(told[::2], told[1::2], strict=True)]
