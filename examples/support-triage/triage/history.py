"""Write the dirty history of the example: `python -m triage.history --out history.jsonl --truth truth.json`."""

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from triage import dirt
from triage.language import sentence
from triage.tickets import Ticket, tickets

WEIGHTS = {
    "access": 2.2, "network": 1.5, "hardware": 1.4, "billing": 1.4,
    "data": 1.1, "howto": 1.0, "security": 0.7, "feature": 0.7,
}  # fmt: skip
GOOD = 1700


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many rows get each kind of dirt; the defaults suit 1,700 good rows and shrink in proportion."""

    exact: int = 60
    trivial: int = 60
    critical: int = 60
    personal: int = 170
    encoding: int = 60
    mislabelled: int = 51
    conflicting: int = 30
    malformed: int = 24

    def scaled(self, share: float) -> "Sizes":
        """The sizes for a history `share` as long; at least 3 rows of each kind."""
        return Sizes(**{name: max(3, round(getattr(self, name) * share)) for name in self.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the history: its object, or raw text where the line is broken, and what was planted on it."""

    ticket: Ticket
    text: str
    resolution: str
    category: str
    planted: tuple[dict[str, Any], ...] = ()
    spoil: Callable[[dict[str, Any]], str] | None = field(default=None, compare=False)


def _row(ticket: Ticket) -> Row:
    return Row(ticket, ticket.text, ticket.answer, ticket.category)


def _note(planted: str, /, **more: str) -> tuple[dict[str, Any], ...]:
    return ({"planted": planted, **more},)


def _drop(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: json.dumps({k: v for k, v in row.items() if k != name})


def _put(name: str, value: object) -> Callable[[dict[str, Any]], str]:
    return lambda row: json.dumps({**row, name: value})


def _resolve(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[dict[str, Any]], str]:
    def spoil(row: dict[str, Any]) -> str:
        body = change(json.loads(row["resolution"]))
        return json.dumps({**row, "resolution": json.dumps(body, separators=(",", ":"))})

    return spoil


MALFORMED: dict[str, Callable[[dict[str, Any]], str]] = {
    "json_cut_short": lambda row: json.dumps(row)[:-25],
    "text_missing": _drop("text"),
    "text_null": _put("text", None),
    "text_not_a_string": _put("text", 12345),
    "text_empty": _put("text", "  "),
    "not_an_object": lambda row: json.dumps(list(row.values())),
    "resolution_not_json": _put("resolution", "solved, see mail"),
    "resolution_missing": _drop("resolution"),
    "resolution_priority_unknown": _resolve(lambda body: {**body, "priority": "P9"}),
    "resolution_category_unknown": _resolve(lambda body: {**body, "category": "misc"}),
    "resolution_without_team": _resolve(lambda body: {k: v for k, v in body.items() if k != "team"}),
    "resolution_entities_a_list": _resolve(lambda body: {**body, "entities": list(body["entities"].values())}),
}


def _dirty_in_place(good: list[Row], sizes: Sizes, rng: random.Random) -> list[int]:
    """Spoil some of the good rows where they stand; return the places that were left clean, in random order."""
    places = rng.sample(range(len(good)), len(good))
    for i in range(sizes.personal):
        at, kind = places.pop(), dirt.PERSONAL[i % len(dirt.PERSONAL)]
        said, value = dirt.personal(kind, rng)
        text = f"{good[at].text} {sentence(said)}"
        good[at] = replace(good[at], text=text, planted=_note("personal_data", kind=kind, value=value))
    breakable = [line for line in dirt.ACCENTED if dirt.breakable(line)]
    for i in range(sizes.encoding):
        at, kind = places.pop(), ("mojibake", "bom", "control")[i % 3]
        clean = good[at].text
        if kind == "mojibake":
            clean = f"{clean} {sentence(rng.choice(breakable))}"
            text = dirt.mojibake(clean)
        else:
            text = f"\ufeff{clean}" if kind == "bom" else dirt.controls(clean, rng)
        good[at] = replace(good[at], text=text, planted=_note("broken_encoding", kind=kind, clean=clean))
    for _ in range(sizes.mislabelled):
        at = places.pop()
        wrong, resolution = dirt.mislabelled(good[at].ticket, rng)
        note = _note("wrong_label", right=good[at].category, resolution=good[at].resolution)
        good[at] = replace(good[at], category=wrong, resolution=resolution, planted=note)
    return places


def _added(good: list[Row], clean: list[int], sizes: Sizes, rng: random.Random) -> list[Row]:
    """Rows that repeat, nearly repeat or contradict a clean row, and lines that are no rows."""
    added = []
    for _ in range(sizes.exact):
        row = good[clean.pop()]
        added.append(replace(row, planted=_note("exact_duplicate", of=row.ticket.id)))
    for _ in range(sizes.trivial):
        row = good[clean.pop()]
        text, kind = dirt.trivial(row.text, rng)
        added.append(replace(row, text=text, planted=_note("near_duplicate", kind=kind, of=row.ticket.id)))
    kinds = ("asset", "negation", "level")
    while sum(row.planted[0]["planted"] == "critical_difference" for row in added) < sizes.critical:
        row, kind = good[clean.pop()], kinds[len(added) % len(kinds)]
        changed = dirt.critical(row.ticket, kind, rng)
        if changed is not None:
            note = _note("critical_difference", kind=kind, of=row.ticket.id)
            added.append(replace(row, text=changed[0], resolution=changed[1], planted=note))
    for _ in range(sizes.conflicting):
        row = good[clean.pop()]
        wrong, resolution = dirt.mislabelled(row.ticket, rng)
        note = _note("conflicting_label", of=row.ticket.id, right=row.category)
        added.append(replace(row, category=wrong, resolution=resolution, planted=note))
    for i in range(sizes.malformed):
        row, kind = good[clean.pop()], list(MALFORMED)[i % len(MALFORMED)]
        added.append(replace(row, planted=_note("malformed", kind=kind), spoil=MALFORMED[kind]))
    return added


def history(seed: int, good: int = GOOD) -> tuple[list[str], dict[str, Any]]:
    """The lines of the history and the truth about them, the same for the same arguments.

    The truth is `{"seed", "good", "lines", "counts": {planted: n}, "rows": [{"line", "ticket_id", "planted", ...}]}`;
    lines count from 1 and `of` is the ticket id of the row that was repeated. Raises ValueError below 200 good rows.
    """
    if good < 200:
        raise ValueError(f"good must be at least 200, not {good}")
    rng = random.Random(f"history-{seed}")
    sizes = Sizes().scaled(good / GOOD)
    rows = [_row(ticket) for ticket in tickets(seed, good, weights=WEIGHTS)]
    clean = _dirty_in_place(rows, sizes, rng)
    rows += _added(rows, clean, sizes, rng)
    rng.shuffle(rows)
    names: dict[str, str] = {}
    for i, row in enumerate(rows):
        if row.spoil is None and not any("of" in note for note in row.planted):
            names.setdefault(row.ticket.id, f"h-{i:05d}")
    moment = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
    lines, notes = [], []
    for i, row in enumerate(rows):
        moment += timedelta(minutes=rng.randint(1, 90))
        body = {
            "ticket_id": f"h-{i:05d}",
            "text": row.text,
            "resolution": row.resolution,
            "category": row.category,
            "form": row.ticket.form,
            "customer": row.ticket.customer,
            "created_at": moment.isoformat(),
        }
        lines.append(row.spoil(body) if row.spoil else json.dumps(body, ensure_ascii=False))
        for note in row.planted:
            named = {**note, "of": names[note["of"]]} if "of" in note else note
            notes.append({"line": i + 1, "ticket_id": body["ticket_id"], **named})
    counts = dict(sorted(Counter(note["planted"] for note in notes).items()))
    return lines, {"seed": seed, "good": good, "lines": len(lines), "counts": counts, "rows": notes}


def main(arguments: list[str] | None = None) -> int:
    """Parse the options and write both files."""
    parser = argparse.ArgumentParser(prog="python -m triage.history", description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--good", type=int, default=GOOD, help="number of good rows")
    parser.add_argument("--out", type=Path, required=True, help="history to write, JSONL")
    parser.add_argument("--truth", type=Path, help="what was planted on which line, JSON")
    options = parser.parse_args(arguments)
    if options.good < 200:
        parser.error(f"--good must be at least 200, not {options.good}")
    lines, truth = history(options.seed, options.good)
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if options.truth:
            options.truth.parent.mkdir(parents=True, exist_ok=True)
            options.truth.write_text(json.dumps(truth, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        print(f"cannot write {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"{len(lines)} lines, of them {truth['good']} good rows; planted: {truth['counts']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
