"""The card of a dataset version: Hugging Face metadata in YAML, then what a reader should know."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from libs.contracts.task import TaskSpec
from services.curation.domain.columns import Column
from services.curation.domain.personal import KEEP
from services.curation.domain.rules import rule_of
from services.curation.domain.split import SPLITS

CARD = "README.md"
"""Where the hub looks for a card."""
CARD_BEFORE = "card.md"
"""What it was called in versions built before."""
UNKNOWN = "unknown"
"""The licence of rows that state none."""
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


_PLAIN = re.compile(r"[a-z][a-z0-9_-]*(?: [a-z]+)*")
"""Text that needs no quotes in YAML, were it not for the words that mean something else there."""
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"})


class _Dumper(yaml.SafeDumper):
    """YAML in which no reader of 1.1 or 1.2 takes a text for anything else."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        """As the base does, with lists indented in their key."""
        super().increase_indent(flow, indentless=False)


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(text) is not None and text not in _WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _text_node)


def card(
    spec: TaskSpec,
    report: Mapping[str, Any],
    languages: Sequence[str],
    licences: Sequence[str],
    columns: Sequence[Column],
) -> str:
    """The text of `README.md`, where the hub looks for it. `languages` are ISO 639-1 codes, `licences` and `columns`
    those of the rows.
    """
    metadata = _metadata(spec, report, languages, licences, columns)
    head = yaml.dump(metadata, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31)
    return "\n".join(["---", f"{head}---", "", *_text(spec, report, licences, columns), ""])


def size_category(rows: int) -> str:
    """The size category of the Hugging Face hub."""
    return next((name for limit, name in _SIZES if rows < limit), "1M<n<10M")


def licences_of(stated: Iterable[str | None]) -> list[str]:
    """The licences that rows state; `unknown` is one of them where others state none."""
    found = set(stated)
    return sorted({each or UNKNOWN for each in found}) if any(found) else []


def licence_of(licences: Sequence[str]) -> str:
    """One identifier for the whole: the rows' common licence, `unknown` without any, `other` for several."""
    return licences[0] if len(licences) == 1 else "other" if licences else UNKNOWN


def _metadata(
    spec: TaskSpec,
    report: Mapping[str, Any],
    languages: Sequence[str],
    licences: Sequence[str],
    columns: Sequence[Column],
) -> dict[str, Any]:
    licence = licence_of(licences)
    files = [{"split": name, "path": f"{name}.jsonl"} for name in SPLITS if report["splits"][name]]
    return {
        "pretty_name": f"{spec.task} dataset {report['number']}",
        **({"language": list(languages)} if languages else {}),
        "license": licence.lower(),
        **({"license_name": ", ".join(licences)} if licence == "other" else {}),
        "task_categories": ["text-generation"],
        "size_categories": [size_category(report["rows"]["kept"])],
        "tags": ["pawl", *(["synthetic"] if report["kinds"].get("synthetic") else [])],
        "configs": [{"config_name": "default", "data_files": files}],
        "dataset_info": {"features": [column.feature() for column in columns]},
    }


def _text(spec: TaskSpec, report: Mapping[str, Any], licences: Sequence[str], columns: Sequence[Column]) -> list[str]:
    leakage, balance = report["leakage"], report["balance"]
    lines = [f"# {spec.task}, dataset version {report['number']}", "", spec.description, ""]
    lines += _table(("split", "rows"), report["splits"])
    lines += ["## Columns", "", "| column | what it holds |", "|---|---|"]
    lines += [*(f"| {column.name} | {column.says} |" for column in columns), ""]
    lines += ["## Where the rows come from", "", *_table(("source", "rows"), report["sources"])]
    if licences:
        lines += [f"Licences: {', '.join(map(_cell, licences))}.", ""]
    lines += ["## Categories", "", *_table(("category", "training rows"), report["categories"]["train"])]
    if balance["lacking"]:
        lines += [
            "Lacking: " + ", ".join(f"{_cell(name)} {count}" for name, count in balance["lacking"].items()) + ".",
            "",
        ]
    lines += ["## What was done to the rows", "", "| rule | rows | what it says |", "|---|---|---|"]
    done = {**report["edited"], **report["removed"]}
    lines += [f"| {name} | {count} | {rule_of(name).says} |" for name, count in sorted(done.items())]
    outcomes = ", ".join(f"{count} {name}" for name, count in report["outcomes"].items())
    lines += ["", f"Of {report['rows']['in']} rows that came in: {outcomes}. The ledger accounts for every one.", ""]
    lines += ["## Splits and leakage", ""]
    lines += [
        "A split is a permanent function of the task and the group (conversation, customer, template, near and",
        "semantic duplicates). Edges counted anew between the published rows and the items of suites:", "",
        "| kind | edges | crossing splits | from | how |", "|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {kind} | {told['edges']} | {told['crossing']} | {told['threshold']} | {told['method']} |"
        for kind, told in leakage["edges"].items()
    ]
    lines += ["", *(f"Not counted: {kind}, since {why}." for kind, why in leakage["left_out"].items())]
    lines += [f"Withheld: {json.dumps(leakage['withheld'], sort_keys=True)}.", ""]
    lines += ["## Decontamination", "", *_decontamination(report["decontamination"])]
    redacted = report["redacted"]
    lines += ["## Personal data", ""]
    lines += [", ".join(f"{name}: {count}" for name, count in redacted.items()) or "Nothing was replaced or dropped."]
    kept = sorted(kind for kind, act in spec.data.redact.model_dump(mode="json").items() if act == KEEP)
    if kept:
        lines += ["", f"Kept wherever it stands: {', '.join(kept)}."]
    if spec.data.curation.personal == "patterns":
        lines += ["", "Patterns looked for it: of names of persons and places nothing was looked for."]
    return lines


def _decontamination(told: Mapping[str, Any]) -> list[str]:
    lines = ["| suite | kind | kept out of training | why |", "|---|---|---|---|"]
    for suite in told["suites"]:
        covered = "yes" if suite["covered"] else "no"
        lines.append(f"| {suite['suite']} | {suite['kind']} | {covered} | {suite.get('why', '')} |")
    lines.append("")
    for side, checked in told["checked"].items():
        recall, whose = checked["recall"], "the task's own suite" if side == "own" else "the other suites"
        alone = ", ".join(f"{stage} {found}" for stage, found in recall["found_by_stage_alone"].items())
        done = "withheld" if checked["withheld"] else "told of and kept"
        lines += [
            f"Rows that reword an item of {whose}: {checked['rows']}, {done}; found by {checked['method']}.",
            f"Of {recall['planted']} rewordings planted it finds {recall['found']}; each stage alone: {alone}.",
            "",
        ]
    return lines


def _table(head: tuple[str, str], counts: Mapping[str, int]) -> list[str]:
    rows = [f"| {_cell(name)} | {count} |" for name, count in counts.items()]
    return [f"| {head[0]} | {head[1]} |", "|---|---|", *rows, ""]


def _cell(text: str) -> str:
    """A text that stays in its cell of a table."""
    return " ".join(text.replace("|", "\\|").split())
