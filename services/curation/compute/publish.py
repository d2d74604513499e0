"""Writes a dataset version: the lines of each split, the report, the card and the Croissant document."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from libs.contracts.ids import digest_bytes
from services.curation.compute.languages import main_languages
from services.curation.compute.pipeline import Version
from services.curation.domain.card import CARD, card, licence_of, licences_of
from services.curation.domain.columns import Kind, columns_of, kinds_in
from services.curation.domain.croissant import CROISSANT, croissant
from services.curation.domain.messages import answer
from services.curation.domain.rows import Row
from services.curation.domain.split import SPLITS
from services.curation.domain.steps import Context
from services.curation.domain.suite import Item, messages_of


def write_suite(directory: Path, items: Sequence[Item]) -> None:
    """`items.jsonl` of a suite."""
    directory.mkdir(parents=True)
    _write_lines(directory / "items.jsonl", (item.as_json() for item in items))


def write_dataset(directory: Path, version: Version, context: Context, report: dict[str, Any]) -> None:
    """Every file of a dataset version; the same version gives the same bytes."""
    directory.mkdir(parents=True)
    files: dict[str, tuple[str, int]] = {}
    seen: dict[str, set[tuple[str, Kind | None]]] = {}
    for name in SPLITS:
        path = directory / f"{name}.jsonl"
        seen[path.name] = _write_lines(path, (line_of(row, context.spec.system) for row in version.splits[name]))
        content = path.read_bytes()
        files[path.name] = digest_bytes(content).removeprefix("sha256:"), len(content)
    rows = [row for name in SPLITS for row in version.splits[name]]
    languages = main_languages([row.input for row in rows])
    licences = licences_of(row.licence for row in rows)
    stated = [row.created_at for row in rows if row.dated]
    columns = columns_of(set[tuple[str, Kind | None]]().union(*seen.values()))
    (directory / "report.json").write_text(json.dumps(report, indent=1, sort_keys=True, ensure_ascii=False), "utf-8")
    (directory / CARD).write_text(card(context.spec, report, languages, licences, columns), "utf-8")
    document = croissant(
        name=context.spec.task,
        description=context.spec.description,
        version=f"{report['number']}.0.0",
        licence=licence_of(licences),
        tenant=context.tenant,
        # The day of a build, or of an import, would make equal versions differ.
        published=max(stated).date().isoformat() if stated else None,
        files={name: file for name, file in files.items() if file[1]},
        columns={name: columns_of(found) for name, found in seen.items()},
        report=report,
        languages=languages,
    )
    (directory / CROISSANT).write_text(json.dumps(document, indent=1, ensure_ascii=False), "utf-8")


def line_of(row: Row, system: str) -> dict[str, Any]:
    """A row as a line of a split's file; what a row does not have is left out, but for its category."""
    line: dict[str, Any] = {
        "row_id": row.row_id,
        "messages": [*messages_of(row, system), answer(row.answer or "", row.answer_as, row.tools)],
        "category": row.category,
        "group": row.split_group,
        "source": row.source,
    }
    if row.tools:
        line["tools"] = json.loads(row.tools)
    if row.rejected is not None:
        wrong = answer(row.rejected, None, row.tools)
        line["rejected"] = [wrong] if "tool_calls" in wrong else row.rejected
    # Under what it may be used, and how sure the signals on it are: what an auditor asks of any one row.
    told = {"label": row.label, "licence": row.licence, "consent": row.consent, "confidence": row.confidence}
    line |= {name: value for name, value in told.items() if value is not None}
    if row.lineage:
        line |= {"synthetic": True, "lineage": json.loads(row.lineage)}
    return line


def _write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> set[tuple[str, Kind | None]]:
    """Write the lines; returns the columns they have."""
    seen: set[tuple[str, Kind | None]] = set()
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
            seen.update(kinds_in(line))
    return seen
