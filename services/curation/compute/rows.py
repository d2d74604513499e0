"""Reads segments into rows; a column an older segment does not have is null."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import polars as pl

from libs.contracts.errors import DataLoss
from libs.contracts.ids import record_of
from services.curation.domain.messages import dump, flat, history_of, text_of
from services.curation.domain.rows import Row

_NEEDED = (
    "row_id", "kind", "source", "input", "output", "signal", "created_at", "system", "category", "group", "request_id",
    "consent",
)  # fmt: skip
_OPTIONAL = (
    "history", "messages", "tools", "user", "weight", "licence", "rejected", "label", "review", "form", "confidence",
    "revision", "judgement", "subject", "comment", "pseudonyms", "arrived_at",
)  # fmt: skip
NUMBER = "number"


def load(segments: Sequence[tuple[int, Path]]) -> list[Row]:
    """Rows of the segments (number and file), in order, each record once; DataLoss names a segment that is not one.

    Of a record that was imported again with other terms (consent, licence, user) the last version stands, under its id;
    where it says nothing of one of them, what was said of that before.
    Small segments that follow each other may lie in one file, whose column `number` tells them apart.
    """
    rows: dict[str, Row] = {}
    for path, shared in groupby(segments, key=itemgetter(1)):
        numbers = [number for number, _ in shared]
        try:
            table = pl.read_parquet(path)
            missing = [name for name in _NEEDED if name not in table.columns]
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataLoss(f"segment {path.name} cannot be read: {error}", field="segment") from error
        if missing:
            raise DataLoss(f"segment {path.name} lacks the column {missing[0]!r}", field="segment")
        if NUMBER in table.columns:
            table = table.filter(pl.col(NUMBER).is_in(numbers))
        present = [name for name in (*_NEEDED, *_OPTIONAL) if name in table.columns]
        for row in table.select(present).iter_rows(named=True):
            version = row["row_id"]
            row["row_id"] = record = record_of(version)
            before = rows.get(record)
            if before is None or version != record:
                now = _row(row, path.name)
                rows[record] = now if before is None else _unsaid(now, before)
    return list(rows.values())


def _row(given: dict[str, Any], segment: str) -> Row:
    messages = given.pop("messages", None)
    if messages:
        try:
            given |= _conversation(json.loads(messages), given)
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise DataLoss(f"segment {segment}: row {given['row_id']}: messages: {error}", field="messages") from error
    if given.get("history") and not _is_turns(given["history"]):
        raise DataLoss(f"segment {segment}: row {given['row_id']}: history is no list of turns", field="history")
    given["weight"] = 1.0 if given.get("weight") is None else given["weight"]
    given["input"] = given["input"] or ""
    given["dated"] = given.pop("arrived_at", None) != given["created_at"]
    given["named"] = frozenset(json.loads(given.pop("pseudonyms", None) or "[]"))
    return Row(answer=given.pop("output"), **given)


def _unsaid(now: Row, before: Row) -> Row:
    """Who knows nothing of a consent takes none back, nor gives one; and an erasure must find whose it is."""
    return replace(
        now,
        user=before.user if now.user is None else now.user,
        consent=before.consent if now.consent is None else now.consent,
        licence=before.licence if now.licence is None else now.licence,
    )


def _is_turns(history: str) -> bool:
    try:
        turns = json.loads(history)
    except (ValueError, RecursionError):
        return False
    return isinstance(turns, list) and all(isinstance(turn, dict) for turn in turns)


def _conversation(messages: list[dict[str, Any]], given: dict[str, Any]) -> dict[str, Any]:
    """The columns of a whole conversation: calls of tools, their results and typed parts survive beside the text."""
    system = "\n\n".join(text_of(each.get("content")) for each in messages if each["role"] == "system") or None
    turns = [each for each in messages if each["role"] != "system"]
    said = "output" if given["output"] is not None else "rejected" if given.get("label") is False else None
    if said == "output" and given.get("rejected") is None and given.get("label") is None:
        taught = _taught(turns)
        if taught is None:
            return {"output": None}
        turns = taught
    answer = turns.pop() if turns and turns[-1]["role"] == "assistant" and said is not None else None
    if not turns:
        return {}
    *before, last = turns
    return {
        **({said: flat(answer) or given[said]} if said is not None and answer is not None else {}),
        "system": given["system"] or system,
        "history": history_of(before),
        "input": text_of(last.get("content")),
        "input_as": _whole(last, "user"),
        "answer_as": _whole(answer, "assistant") if answer is not None else None,
    }


def _taught(turns: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """The turns up to the last answer that is to be learnt; None where every answer has the weight 0.

    What follows that answer has no part in learning it.
    """
    if not turns or turns[-1]["role"] != "assistant" or turns[-1].get("weight") != 0:
        return turns
    answers = [at for at, each in enumerate(turns) if each["role"] == "assistant" and each.get("weight") != 0]
    return turns[: answers[-1] + 1] if answers else None


def _whole(message: dict[str, Any], role: str) -> str | None:
    plain = message["role"] == role and set(message) == {"role", "content"} and isinstance(message["content"], str)
    return None if plain else dump(message)
