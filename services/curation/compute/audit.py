"""`python -m services.curation.compute.audit REQUEST`: what is there before anything is changed, as JSON and a page."""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from libs.contracts.errors import InvalidInput
from services.curation.compute.answers import AnswerCheck
from services.curation.compute.build import context_of, run_child
from services.curation.compute.engines import duplicates_of
from services.curation.compute.languages import languages
from services.curation.compute.personal import PatternFinder
from services.curation.compute.publish import line_of
from services.curation.compute.readable import before_the_suite, readable
from services.curation.compute.redaction import Redaction
from services.curation.compute.tokens import TokenCounter
from services.curation.domain.audit_page import page
from services.curation.domain.messages import turns_of
from services.curation.domain.rows import Row, asked
from services.curation.domain.rules import Outcome, rule_of
from services.curation.domain.steps import Context
from services.curation.domain.text import Reading

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
_SHOWN = 20
_BINS = 30


def main(request_file: str) -> None:
    """Audit what the request names; `json` and `html` of the result are the files written."""
    run_child(request_file, audit)


def audit(request: dict[str, Any]) -> dict[str, Any]:
    """Write audit.json and audit.html into the request's `out`; the same rows and policy give the same bytes."""
    rows, context = context_of({**request, "fractions": None, "suite": None})
    report = report_of(rows, context, request.get("base") or {})
    out = Path(request["out"])
    out.mkdir(parents=True, exist_ok=True)
    (out / "audit.json").write_text(_dumped(report))
    (out / "audit.html").write_text(page(report))
    return {"json": str(out / "audit.json"), "html": str(out / "audit.html")}


def report_of(rows: Sequence[Row], context: Context, base: dict[str, str]) -> dict[str, Any]:
    """Everything the audit tells. `base` are the paths of the base's tokenizer and template, empty for none.

    It counts all rows, and quotes those that the policy on personal data lets anybody read, as it leaves them.
    """
    spec, reading = context.spec, Reading()
    embeddings = duplicates_of(spec, rows, context.erased)
    first = readable(rows, context, embeddings)
    open_ = {row.row_id: row for row in first.rows}
    dry = before_the_suite(first, context, embeddings)
    dry.facts.pop("placed")
    unjudged = dry.facts.pop("unjudged", [])
    texts: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        texts[reading.key(asked(row))].append(row.row_id)
    labels = Redaction.labels(context, [label for row in rows for label in (row.source, row.licence, row.category)])
    return {
        "task": spec.task,
        "rows": {
            "total": len(rows),
            "kinds": _counted(row.kind for row in rows),
            "sources": _counted(labels.get(row.source, "") for row in rows),
            "signals": _counted(row.signal for row in rows),
            "with_answer": sum(row.answer is not None for row in rows),
            "with_rejected": sum(row.rejected is not None for row in rows),
            "conversations": sum(row.history is not None for row in rows),
            "users": len({row.user for row in rows if row.user}),
            "licences": _counted(labels[row.licence] if row.licence else "not stated" for row in rows),
            "consent": _counted({True: "given", False: "refused", None: "not stated"}[row.consent] for row in rows),
            "first": min((row.created_at for row in rows), default=None),
            "last": max((row.created_at for row in rows), default=None),
        },
        "characters": {
            "input": _spread([len(asked(row)) for row in rows]),
            "answer": _spread([len(row.answer) for row in rows if row.answer is not None]),
            "turns": _spread([len(turns_of(row.history)) + 1 for row in rows]),
        },
        "tokens": _tokens(rows, context, base),
        "languages": languages([row.input for row in rows]),
        "categories": {
            "counts": dict(Counter(labels[row.category] if row.category else "none" for row in rows).most_common()),
            **dry.facts["taxonomy"],
        },
        "duplicates": {
            "texts": len(texts),
            "rows_with_a_text_seen_before": len(rows) - len(texts),
            "most_repeated": [
                {"text": asked(open_[row_id])[:200], "rows": len(held)}
                for held in sorted(texts.values(), key=len, reverse=True)[:5]
                if len(held) > 1
                for row_id in [each for each in held if each in open_][:1]
            ],
            "largest_group": dry.facts["largest_group"],
            "groups": dry.facts["groups"],
            "near": dry.facts["near_duplicates"],
        },
        "personal_data": _personal(rows),
        "format_errors": _faults(rows, open_, context),
        "label_conflicts": dry.facts["label_conflicts"],
        "suspected_mislabels": {
            **dry.facts["labels"],
            "examples": [
                {"row_id": each.row_id, "input": each.input[:200], "category": each.category, "better": each.suggestion}
                for each in dry.questions
                if each.kind == "mislabel"
            ][:_SHOWN],
        },
        "quality": dry.facts["quality"],
        "unjudged": len(unjudged),
        "policy_would": {
            "edit": dry.ledger.edits(),
            "merge": _of(dry.ledger.reasons(), Outcome.MERGED),
            "quarantine": _of(dry.ledger.reasons(), Outcome.QUARANTINED),
            "ask": _counted(each.kind for each in dry.questions),
        },
    }


def _tokens(rows: Sequence[Row], context: Context, base: dict[str, str]) -> dict[str, Any]:
    if not base:
        return {"counted": 0, "why_not": "the task's base is not known"}
    taught = [row for row in rows if row.answer is not None]
    try:
        counter = TokenCounter(base)
    except InvalidInput as error:
        return {"counted": 0, "why_not": str(error)}
    lines = [line_of(row, context.spec.system) for row in taught]
    lengths = counter.lengths([line["messages"] for line in lines], [line.get("tools") for line in lines])
    known = [length for length in lengths if length is not None]
    limit = context.spec.recipe.max_length
    refused = [row.row_id for row, length in zip(taught, lengths, strict=True) if length is None]
    return {
        "counted": len(known),
        **_spread(known),
        "max_length": limit,
        "over_max_length": sum(length > limit for length in known),
        "refused_by_template": {"rows": len(refused), "examples": refused[:_SHOWN]},
    }


def _personal(rows: Sequence[Row]) -> dict[str, Any]:
    kinds: Counter[str] = Counter()
    touched: Counter[str] = Counter()
    finder = PatternFinder()
    columns = [finder.find([asked(row) for row in rows]), finder.find([row.answer or "" for row in rows])]
    for of_question, of_answer in zip(*columns, strict=True):
        found = [span.kind for span in (*of_question, *of_answer)]
        kinds.update(found)
        touched.update(set(found))
    return {"values": dict(sorted(kinds.items())), "rows": dict(sorted(touched.items()))}


def _faults(rows: Sequence[Row], open_: Mapping[str, Row], context: Context) -> dict[str, Any]:
    check = AnswerCheck(context.spec.output)
    counts: Counter[str] = Counter()
    examples: list[dict[str, str]] = []
    for row in rows:
        fault = check.fault(row.answer) if row.answer is not None else None
        if fault is None:
            continue
        counts[fault[0]] += 1
        shown = open_.get(row.row_id)
        # Told of rows that may be read alone.
        told = check.fault(shown.answer) if shown is not None and shown.answer is not None else None
        if told is not None and len(examples) < _SHOWN:
            examples.append({"row_id": row.row_id, "fault": told[0], "detail": told[1][:200]})
    return {"counts": dict(sorted(counts.items())), "examples": examples}


def _spread(values: Sequence[int]) -> dict[str, Any]:
    if not values:
        return {"quantiles": {}, "histogram": []}
    quantiles = {f"{q:g}": int(np.quantile(values, q, method="inverted_cdf")) for q in _QUANTILES}
    top = max(1, int(np.quantile(values, 0.995, method="inverted_cdf")))
    counts, edges = np.histogram(np.minimum(values, top), bins=min(_BINS, top), range=(0, top))
    bins = [[round(float(edge), 1), int(count)] for edge, count in zip(edges[:-1], counts, strict=True)]
    return {"quantiles": quantiles, "histogram": bins, "sum": int(sum(values))}


def _of(reasons: dict[str, int], outcome: Outcome) -> dict[str, int]:
    return {name: count for name, count in reasons.items() if rule_of(name).outcome is outcome}


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _dumped(report: dict[str, Any]) -> str:
    return json.dumps(report, indent=1, ensure_ascii=False, default=lambda value: value.isoformat())


if __name__ == "__main__":
    main(sys.argv[1])
