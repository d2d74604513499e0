"""Checks answers against the task's output: strict JSON and its schema."""

from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import SchemaError, best_match

from libs.contracts.answers import strict_json
from libs.contracts.errors import InvalidInput
from libs.contracts.task import OutputSpec


class AnswerCheck:
    """Says what is wrong with an answer; InvalidInput when the task's schema itself is."""

    def __init__(self, output: OutputSpec) -> None:
        self._json = output.format == "json"
        self._validator: Any = None
        if self._json and output.schema_ is not None:
            try:
                Draft202012Validator.check_schema(output.schema_)
            except SchemaError as error:
                raise InvalidInput(
                    f"output.schema is no JSON Schema: {error.message}", field="output.schema"
                ) from error
            self._validator = Draft202012Validator(output.schema_)

    def fault(self, answer: str) -> tuple[str, str] | None:
        """Reason of removal and detail, or None for a good answer. No detail quotes the answer: a breach is told by the
        place in the schema that is broken.
        """
        if not answer:
            return "answer_empty", ""
        if not self._json:
            return None
        try:
            value = strict_json(answer)
        except (ValueError, RecursionError) as error:
            return "answer_not_json", str(error)
        if self._validator is None:
            return None
        worst: ValidationError | None = best_match(self._validator.iter_errors(value))
        if worst is None:
            return None
        # What is missing is a word of the schema.
        missing = f": {worst.message}" if worst.validator == "required" else ""
        return "answer_breaks_schema", ".".join(map(str, worst.absolute_schema_path)) + missing
