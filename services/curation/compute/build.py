"""`python -m services.curation.compute.build REQUEST`: a request file in; a dataset, a suite and a result file out."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from libs.contracts.errors import DataLoss, InvalidInput, PawlError
from libs.contracts.ids import digest_bytes
from libs.contracts.task import SplitSpec, TaskSpec
from services.curation.compute.pipeline import Version, curate
from services.curation.compute.rows import load
from services.curation.domain.rows import Row
from services.curation.domain.split import SPLITS, TEST, TRAIN, salt_of
from services.curation.domain.suite import Item, messages_of


def main(request_file: str) -> None:
    """Build what the request asks for; the result says what was built, refused, or went wrong."""
    request = json.loads(Path(request_file).read_text())
    path = Path(request["result"])
    try:
        result = build(request)
    except PawlError as error:
        result = {"error": str(error), "reason": error.reason}
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(result))
    temporary.replace(path)


def build(request: dict[str, Any]) -> dict[str, Any]:
    """Write the trees into the request's `out` directory; returns counts, or `refused` with the reason.

    The same segments, policy and frozen suite give the same bytes.
    """
    spec = TaskSpec.model_validate(request["spec"])
    tenant, number = str(request["tenant"]), int(request["number"])
    fractions = SplitSpec.model_validate(request["fractions"]) if request["fractions"] else spec.data.split
    frozen = _read_items(Path(request["suite"])) if request["suite"] else None
    rows = load([Path(each) for each in request["segments"]])
    try:
        version = curate(rows, spec, tenant=tenant, fractions=fractions, suite=frozen)
    except InvalidInput as error:
        return {"refused": f"{error.field}: {error}"}
    report = _report(version, request, rows, fractions)
    refusal = _refusal(version, spec)
    if refusal:
        return {"refused": refusal, "report": report}
    suite_version = int(request["suite_version"]) + (1 if version.new_items else 0)
    out = Path(request["out"])
    _write_suite(out / "suite", version.items)
    report["suite"] = {"version": suite_version, "items": len(version.items), "new": version.new_items}
    _write_dataset(out / "dataset", version, spec, report)
    return {
        "splits": {name: len(version.splits[name]) for name in SPLITS},
        "removed": version.ledger.reasons(),
        "categories": report["categories"]["all"],
        "suite_version": suite_version,
        "suite_items": len(version.items),
        "suite_is_new": bool(version.new_items),
        "metadata": {
            "tenant": tenant,
            "task": spec.task,
            "number": number,
            "salt": salt_of(tenant, spec.task),
            "watermark": int(request["watermark"]),
            "policy_digest": policy_digest(spec, fractions),
            "suite_version": suite_version,
            "leakage_proof": version.facts["leakage"],
        },
    }


def policy_digest(spec: TaskSpec, fractions: SplitSpec) -> str:
    """Digest of everything in the task that shapes a dataset."""
    policy = {
        "data": spec.data.model_dump(mode="json"),
        "output": spec.output.model_dump(mode="json"),
        "suite": spec.evaluation.suite.model_dump(mode="json"),
        "system": spec.system,
        "split": fractions.model_dump(mode="json"),
    }
    return digest_bytes(json.dumps(policy, sort_keys=True, separators=(",", ":")).encode())


def _refusal(version: Version, spec: TaskSpec) -> str:
    train = len(version.splits[TRAIN])
    removed = ", ".join(f"{reason} {count}" for reason, count in version.ledger.reasons().items()) or "none"
    if train < spec.data.min_train_rows:
        return (
            f"{train} rows are left to train on, fewer than data.min_train_rows ({spec.data.min_train_rows}); of "
            f"{version.ledger.total} rows {len(version.splits[TEST])} are test rows; removed: {removed}"
        )
    if not version.items:
        groups = version.facts["groups"]["distinct"]
        return f"no row fell into the test split ({groups} groups, data.split.test), so there is no gate suite"
    return ""


def _report(version: Version, request: dict[str, Any], rows: list[Row], fractions: SplitSpec) -> dict[str, Any]:
    kept = {name: len(version.splits[name]) for name in SPLITS}
    removed = version.ledger.reasons()
    total = len(rows)
    if sum(kept.values()) + sum(removed.values()) != total:
        raise DataLoss(f"{total} rows came in, {sum(kept.values())} are kept and {sum(removed.values())} removed")
    everything = [row for name in SPLITS for row in version.splits[name]]
    return {
        "task": request["spec"]["task"],
        "number": request["number"],
        "watermark": request["watermark"],
        "rows": {"in": total, "kept": sum(kept.values()), "removed": sum(removed.values())},
        "splits": kept,
        "fractions": fractions.model_dump(mode="json"),
        "removed": removed,
        "examples": {reason: version.ledger.examples[reason] for reason in removed},
        "kinds": _counted(row.kind for row in rows),
        "sources": _counted(row.source for row in rows),
        "categories": {
            "all": _counted(row.category for row in everything if row.category),
            **{name: _counted(row.category for row in version.splits[name] if row.category) for name in SPLITS},
        },
        **version.facts,
    }


def _counted(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _write_suite(directory: Path, items: list[Item]) -> None:
    directory.mkdir(parents=True)
    _write_lines(directory / "items.jsonl", (item.as_json() for item in items))


def _write_dataset(directory: Path, version: Version, spec: TaskSpec, report: dict[str, Any]) -> None:
    directory.mkdir(parents=True)
    for name in SPLITS:
        _write_lines(directory / f"{name}.jsonl", (_line(row, version, spec) for row in version.splits[name]))
    (directory / "report.json").write_text(json.dumps(report, indent=1, sort_keys=True, ensure_ascii=False))
    (directory / "card.md").write_text(_card(spec, report))


def _line(row: Row, version: Version, spec: TaskSpec) -> dict[str, Any]:
    return {
        "row_id": row.row_id,
        "messages": [*messages_of(row, spec.system), {"role": "assistant", "content": row.answer}],
        "category": row.category,
        "group": version.groups[row.row_id],
        "source": row.source,
    }


def _write_lines(path: Path, lines: Any) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


def _read_items(path: Path) -> list[Item]:
    with path.open(encoding="utf-8") as file:
        return [Item.of(json.loads(line)) for line in file]


def _card(spec: TaskSpec, report: dict[str, Any]) -> str:
    configs = "\n".join(f"  - split: {name}\n    path: {name}.jsonl" for name in SPLITS)
    removed = "\n".join(f"| {reason} | {count} |" for reason, count in report["removed"].items())
    splits = "\n".join(f"| {name} | {count} |" for name, count in report["splits"].items())
    return (
        f"---\npretty_name: {spec.task} dataset {report['number']}\nconfigs:\n- config_name: default\n  data_files:\n"
        f"{configs}\n---\n\n# {spec.task}, dataset version {report['number']}\n\n{spec.description}\n\n"
        f"| split | rows |\n|---|---|\n{splits}\n\n| removed because | rows |\n|---|---|\n{removed}\n\n"
        f"Splits are a permanent function of the task and the group. `report.json` accounts for every row.\n"
    )


if __name__ == "__main__":
    main(sys.argv[1])
