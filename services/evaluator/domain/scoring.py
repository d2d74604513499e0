"""Whether an answer is right and whether it is valid."""

from collections.abc import Callable, Iterator

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from libs.contracts.answers import same_answer, strict_json
from libs.contracts.errors import InvalidInput
from libs.contracts.task import OutputSpec

EXACT_MATCH = "exact_match"
JSON_VALID = "json_valid"
SIGNATURES = {
    EXACT_MATCH: "exact_match|json:by-value|text:single-spaces|v1",
    JSON_VALID: "json_valid|strict:no-duplicate-keys,no-nan|jsonschema:2020-12|v1",
}

Validity = Callable[[str], bool]


def validity(output: OutputSpec) -> Validity | None:
    """What tells a valid answer of this task, or None for a task whose answers are free text.

    Raises InvalidInput for a schema that is none. References outside the schema are not followed.
    """
    if output.format != "json":
        return None
    if output.schema_ is None:
        return _is_json
    try:
        Draft202012Validator.check_schema(output.schema_)
    except SchemaError as error:
        place = ".".join(["output.schema", *(str(part) for part in error.absolute_path)])
        raise InvalidInput(f"the output schema is no JSON Schema: {error.message}", field=place) from error
    _check_references(output.schema_)
    # An explicit empty registry keeps the library from fetching a remote reference.
    checker = Draft202012Validator(output.schema_, registry=Registry())

    def valid(text: str) -> bool:
        try:
            return bool(checker.is_valid(strict_json(text.strip())))
        except (ValueError, RecursionError):
            return False

    return valid


def metrics_of(output: OutputSpec) -> tuple[str, ...]:
    """Metrics that are measured for a task."""
    return (EXACT_MATCH, JSON_VALID) if output.format == "json" else (EXACT_MATCH,)


def score(metric: str, text: str, answer: str, valid: Validity | None) -> float:
    """1 or 0."""
    if metric == EXACT_MATCH:
        return float(same_answer(text, answer))
    return float(valid is not None and valid(text))


def _check_references(schema: object) -> None:
    root = Registry().with_resource("", Resource.from_contents(schema, default_specification=DRAFT202012)).resolver()
    for reference in _references(schema):
        try:
            root.lookup(reference)
        except Unresolvable as error:
            raise InvalidInput(f"the output schema points nowhere: {reference!r}", field="output.schema") from error


def _references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _is_json(text: str) -> bool:
    try:
        strict_json(text.strip())
    except (ValueError, RecursionError):
        return False
    return True
