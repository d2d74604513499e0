"""Which metrics a task is scored by: built from its file, in the order in which they are reported."""

import json
from collections.abc import Callable, Mapping

from libs.contracts.errors import InvalidInput
from libs.contracts.ids import digest_bytes
from libs.contracts.task import MetricSpec, OutputSpec
from services.evaluator.domain.metrics import exact, fields, overlap, rouge
from services.evaluator.domain.metrics.core import Metric
from services.evaluator.domain.scoring import validity

REMOTE = ("embedding", "judge", "judge_pairwise")
"""Kinds that ask a model beside serving; they come to the report as columns."""

Plugin = Callable[[MetricSpec], Metric]


def local_metrics(
    output: OutputSpec, specs: tuple[MetricSpec, ...] = (), plugins: Mapping[str, Plugin] | None = None
) -> tuple[Metric, ...]:
    """Metrics that need nothing but texts. Raises InvalidInput for a wrong pattern, schema or unknown plugin."""
    made = [exact.exact_match()]
    valid = validity(output)
    if valid is not None:
        schema = json.dumps(output.schema_, sort_keys=True, separators=(",", ":"))
        made.append(exact.json_valid(valid, digest_bytes(schema.encode())))
    made += [_make(spec, plugins or {}) for spec in specs if spec.kind not in (*REMOTE, "json_valid")]
    return tuple(made)


def of_suite(
    kind: str, output: OutputSpec, specs: tuple[MetricSpec, ...], plugins: Mapping[str, Plugin]
) -> tuple[Metric, ...]:
    """Metrics of a suite beside the task's own: safety and general suites bring what their items are judged by."""
    if kind == "safety":
        return (exact.refusal(),)
    if kind == "general":
        return (exact.exact_match(),)
    if kind == "harness":
        return ()
    return local_metrics(output, specs, plugins)


def _make(spec: MetricSpec, plugins: Mapping[str, Plugin]) -> Metric:
    match spec.kind:
        case "exact_match":
            return exact.exact_match(spec.name)
        case "json_fields":
            return fields.json_fields(spec.name, spec.path)
        case "token_f1":
            return fields.token_f1(spec.name)
        case "bleu":
            return overlap.bleu(spec.name, _one_of(spec, ("13a", "intl", "char", "none"), "13a"))
        case "chrf":
            return overlap.chrf(spec.name, spec.word_order or 0)
        case "rouge":
            return rouge.rouge(spec.name, spec.variant or "L", _one_of(spec, tuple(rouge.TOKENIZERS), "unicode"))
        case "numeric":
            return exact.numeric(spec.name, spec.pattern, spec.tolerance or 0.0, spec.path)
        case "regex":
            return exact.regex(spec.name, spec.pattern or "")
        case "edit_similarity":
            return exact.edit_similarity(spec.name)
        case "refusal":
            return exact.refusal(spec.name, spec.pattern)
        case _:
            found = plugins.get(spec.plugin or "")
            if found is None:
                there = ", ".join(sorted(plugins)) or "none"
                raise InvalidInput(
                    f"no metric {spec.plugin!r} among the entry points of the group pawl.metrics (there are: {there}):"
                    " install the package that brings it beside the evaluator",
                    field=f"evaluation.metrics.{spec.name}.plugin",
                )
            return found(spec)


def _one_of(spec: MetricSpec, allowed: tuple[str, ...], default: str) -> str:
    chosen = spec.tokenizer or default
    if chosen not in allowed:
        raise InvalidInput(
            f"{spec.kind} takes the tokenizers {', '.join(allowed)}, not {chosen!r}",
            field=f"evaluation.metrics.{spec.name}.tokenizer",
        )
    return chosen
