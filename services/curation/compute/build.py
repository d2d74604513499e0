"""`python -m services.curation.compute.build REQUEST`: a request file in; a dataset, a suite and a result file out."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from libs.contracts.errors import DataLoss, InvalidInput, PawlError
from libs.contracts.ids import digest_bytes
from libs.contracts.task import SplitSpec, TaskSpec
from libs.contracts.task.evaluation import TASK_SUITE
from libs.contracts.task.recipe import method_of
from services.curation.compute import ledger_file, publish
from services.curation.compute.pipeline import Version, curate
from services.curation.compute.rows import load
from services.curation.compute.steps import versions
from services.curation.compute.steps.judge import MISSING
from services.curation.domain.foreign import foreign_suites
from services.curation.domain.grouping import public_names
from services.curation.domain.review import Decision
from services.curation.domain.rows import Row
from services.curation.domain.rules import optional
from services.curation.domain.split import SPLITS, TEST, TRAIN, salt_of
from services.curation.domain.steps import Context
from services.curation.domain.suite import Item, item_id_of
from services.curation.domain.synthesis import places_of, row_of

_DECIDED = ("decisions", "erased", "erased_rows", "synthetic", "verdicts")
_TEACHING = ("dpo", "kto")
"""Methods that learn from what is wrong, too: which rows teach, and which are the same, depends on them."""


def main(request_file: str) -> None:
    """Build what the request asks for; the result says what was built, refused, or went wrong."""
    run_child(request_file, build)


def run_child(request_file: str, work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Run `work` on the request of a file; its result, or its PawlError, goes to the request's result file."""
    request = json.loads(Path(request_file).read_text())
    path = Path(request["result"])
    try:
        result = work(request)
    except PawlError as error:
        result = {"error": str(error), "reason": error.reason}
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(result))
    temporary.replace(path)


def build(request: dict[str, Any]) -> dict[str, Any]:
    """Write the trees and the ledger into the request's `out` directory; returns counts, or `refused` with the reason.

    The same segments, policy, decisions and frozen suite give the same bytes. `unjudged` lists what a judge must score
    before the build can be done.
    """
    rows, context = context_of(request)
    spec = context.spec
    try:
        version = curate(rows, context)
    except InvalidInput as error:
        return {"refused": f"{error.field}: {error}"}
    unjudged = version.facts.pop(MISSING, [])
    if unjudged:
        return {"unjudged": unjudged}
    report = _report(version, request, rows, context)
    refusal = _refusal(version, spec)
    if refusal:
        return {"refused": refusal, "report": report}
    changed = version.new_items > 0 or version.facts["erased_items"] > 0
    suite_version = int(request["suite_version"]) + (1 if changed else 0)
    out = Path(request["out"])
    publish.write_suite(out / "suite", version.items)
    report["suite"] = {"version": suite_version, "items": len(version.items), "new": version.new_items}
    publish.write_dataset(out / "dataset", version, context, report)
    ledger_file.write(out / "ledger.parquet", version.ledger, rows, version.placed, version.labels)
    return {
        "splits": {name: len(version.splits[name]) for name in SPLITS},
        "removed": version.ledger.reasons(),
        "categories": report["categories"]["all"],
        "suite_version": suite_version,
        "suite_items": len(version.items),
        "suite_is_new": changed,
        "review": [{**asdict(each), "item_id": each.item_id} for each in version.questions],
        "metadata": {
            "tenant": context.tenant,
            "task": spec.task,
            "number": int(request["number"]),
            "salt": context.salt,
            "watermark": int(request["watermark"]),
            "policy_digest": policy_digest(spec, context.fractions, context.undone),
            "decisions_digest": _digest([request.get(name) for name in _DECIDED]),
            "suite_version": suite_version,
            "outcomes": version.outcomes,
            "leakage_proof": version.facts["leakage"],
            "decontamination": report["decontamination"],
        },
    }


def context_of(request: dict[str, Any]) -> tuple[list[Row], Context]:
    """The rows of a request, imported and synthetic, and what the steps may know. Raises DataLoss, InvalidInput."""
    spec = TaskSpec.model_validate(request["spec"])
    tenant = str(request["tenant"])
    fractions = SplitSpec.model_validate(request["fractions"]) if request["fractions"] else spec.data.split
    rows = load([(int(number), Path(path)) for number, path in request["segments"]])
    secret = bytes.fromhex(request["secret"])
    public = public_names(secret, tenant)
    placed = ledger_file.placed_in(Path(request["ledger"])) if request.get("ledger") else {}
    # Versions before may have written what a group was called by whoever sent it.
    placed = {row_id: (public(group), split) for row_id, (group, split) in placed.items()}
    synthetic = [row_of(each, public) for each in request.get("synthetic", [])]
    placed |= places_of(synthetic, placed)
    rows += synthetic
    erased = frozenset(request.get("erased", []))
    gone = frozenset(request.get("erased_rows", []))
    gone |= {row.row_id for row in rows if not erased.isdisjoint((row.user, row.subject))}
    refused = {row.row_id for row in rows if row.consent is False}
    others = {digest: _read_items(Path(path), public) for digest, path in request.get("suites", {}).items()}
    counts = {digest: len(items) for digest, items in others.items()}
    context = Context(
        spec=spec,
        tenant=tenant,
        salt=salt_of(tenant, spec.task),
        secret=secret,
        fractions=fractions,
        undone=optional([*spec.data.curation.without, *request.get("undone", [])]),
        placed=placed,
        decisions={each["row_id"]: Decision(**each) for each in request.get("decisions", [])},
        erased=erased,
        erased_rows=gone,
        erased_items=frozenset(map(item_id_of, gone | refused)),
        suite=_read_items(Path(request["suite"]), public) if request["suite"] else None,
        suites=[item for items in others.values() for item in items],
        coverage=[each.told(counts) for each in foreign_suites(spec)],
        verdicts=request.get("verdicts", {}),
    )
    return rows, context


def policy_digest(spec: TaskSpec, fractions: SplitSpec, undone: frozenset[str] = frozenset()) -> str:
    """Digest of everything in the task, and of the steps' code, that shapes a dataset."""
    return _digest(
        {
            # Which engine does the work changes nothing of what comes of it.
            "data": spec.data.model_dump(mode="json", exclude={"engine"}),
            "output": spec.output.model_dump(mode="json"),
            "suite": spec.evaluation.suite.model_dump(mode="json"),
            "suites": [[each.name, each.kind, each.file] for each in spec.evaluation.suites],
            "system": spec.system,
            "teaches": method if (method := method_of(spec.recipe)) in _TEACHING else "answers",
            "split": fractions.model_dump(mode="json"),
            "undone": sorted(undone),
            "steps": versions(),
        }
    )


def _digest(value: Any) -> str:
    return digest_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


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


def _report(version: Version, request: dict[str, Any], rows: Sequence[Row], context: Context) -> dict[str, Any]:
    kept = {name: len(version.splits[name]) for name in SPLITS}
    removed = version.ledger.reasons()
    if sum(kept.values()) + sum(removed.values()) != len(rows):
        raise DataLoss(f"{len(rows)} rows came in, {sum(kept.values())} are kept and {sum(removed.values())} removed")
    everything = [row for name in SPLITS for row in version.splits[name]]
    return {
        "task": request["spec"]["task"],
        "number": request["number"],
        "watermark": request["watermark"],
        "rows": {"in": len(rows), "kept": sum(kept.values()), "removed": sum(removed.values())},
        "outcomes": version.outcomes,
        "splits": kept,
        "fractions": context.fractions.model_dump(mode="json"),
        "edited": version.ledger.edits(),
        "removed": removed,
        "undone": sorted(context.undone),
        "steps": versions(),
        "examples": version.ledger.quoted(),
        "kinds": _counted(row.kind for row in rows),
        "sources": _counted(version.labels.get(row.source, "") for row in rows),
        "categories": {
            "all": _counted(row.category for row in everything if row.category),
            **{name: _counted(row.category for row in version.splits[name] if row.category) for name in SPLITS},
        },
        "review": _counted(question.kind for question in version.questions),
        "decontamination": _decontamination(version, context),
        **{name: fact for name, fact in version.facts.items() if name != "rephrased"},
    }


def _decontamination(version: Version, context: Context) -> dict[str, Any]:
    """Which suites the version was kept clean of, which not and why; what ran on whom, and how much that finds."""
    own = {"suite": TASK_SUITE, "kind": TASK_SUITE, "covered": True, "items": len(version.items)}
    return {"suites": [own, *context.coverage], "checked": version.facts["rephrased"]}


def _counted(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _read_items(path: Path, public: Callable[[str], str]) -> list[Item]:
    items = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                items += [Item.of(json.loads(line))] if line.strip() else []
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise InvalidInput(f"line {number} of a suite is no item: {error!r}", field="suites") from error
    return [replace(item, group=public(item.group)) for item in items]


if __name__ == "__main__":
    main(sys.argv[1])
