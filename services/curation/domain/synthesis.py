"""Synthetic examples: what a teacher is asked, what of its answer is a candidate, and the row that makes."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from libs.contracts.answers import strict_json
from libs.contracts.task import TaskSpec
from services.curation.domain.rows import SYNTHETIC, Row
from services.curation.domain.split import TRAIN

INVENT, EVOLVE = "self-instruct", "evolve"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN_SCHEMA = 4_000


@dataclass(frozen=True, slots=True)
class Seed:
    """A training row shown to the teacher."""

    row_id: str
    group: str
    input: str
    answer: str
    category: str | None


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a synthetic row was made from: teacher, prompt digest, method, and the rows the teacher saw."""

    model: str
    method: str
    prompt: str
    seeds: tuple[str, ...]
    group: str

    def as_json(self) -> str:
        """As a ledger and a dataset line hold it."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Candidate:
    """One example a teacher wrote."""

    input: str
    answer: str
    category: str | None
    lineage: Lineage

    @property
    def row_id(self) -> str:
        """The same example is the same row."""
        text = "\x00".join((self.input, self.answer, self.category or ""))
        return f"syn-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def prompt(
    spec: TaskSpec, seeds: Sequence[Seed], method: str, category: str | None, count: int
) -> list[dict[str, str]]:
    """The request to the teacher: chat messages that ask for `count` examples as a JSON list.

    Self-instruct: Wang et al., 2023 (arXiv 2212.10560); evolve: Xu et al., 2023 (WizardLM, arXiv 2304.12244).
    """
    answer = "strict JSON" if spec.output.format == "json" else "plain text"
    rules = [f"Task: {spec.description or spec.task}."]
    rules += [f"The assistant is told: {spec.system}"] if spec.system else []
    if spec.output.schema_ is not None:
        schema = json.dumps(spec.output.schema_, separators=(",", ":"))[:_SHOWN_SCHEMA]
        rules.append(f"Every output is {answer} of this schema: {schema}")
    teacher = spec.data.curation.synthesis
    form = '[{"input": "...", "output": "..."}, ...]'
    if teacher is not None and teacher.structured:
        rules.append(f'Reply with one JSON object and nothing else: {{"examples": {form}}}.')
    else:
        rules.append(f"Reply with one JSON list and nothing else: {form}.")
    shown = "\n".join(json.dumps({"input": each.input, "output": each.answer}, ensure_ascii=False) for each in seeds)
    wanted = f" of the category {category!r}" if category else ""
    wish = (
        f"Write {count} new examples{wanted}. They differ from these and from each other in what is asked and how:"
        if method == INVENT
        else f"Rewrite this example into {count} harder ones{wanted}: more constraints, rarer cases, more steps:"
    )
    return [{"role": "system", "content": "\n".join(rules)}, {"role": "user", "content": f"{wish}\n{shown}"}]


def reply_schema(spec: TaskSpec, count: int) -> dict[str, Any]:
    """The JSON schema of a reply with `count` examples: an object, since strict endpoints take no list at the top."""
    answer: dict[str, Any] = {"type": "string"}
    asked: dict[str, Any] = {"type": "string", "minLength": 1}
    teacher = spec.data.curation.synthesis
    if teacher is not None and teacher.max_characters is not None:
        asked["maxLength"] = teacher.max_characters
    if spec.output.format == "json" and spec.output.schema_ is not None:
        answer = spec.output.schema_
    example = {
        "type": "object", "properties": {"input": asked, "output": answer},
        "required": ["input", "output"], "additionalProperties": False,
    }  # fmt: skip
    listed = {"type": "array", "items": example, "minItems": count, "maxItems": count}
    return {
        "type": "object", "properties": {"examples": listed}, "required": ["examples"], "additionalProperties": False,
    }  # fmt: skip


def candidates(
    reply: str, spec: TaskSpec, seeds: Sequence[Seed], *, model: str, method: str, category: str | None, asked: str
) -> tuple[list[Candidate], int]:
    """What a reply holds, and how many of its parts were no example; a reply that is no list counts as one."""
    start, end = reply.find("["), reply.rfind("]")
    try:
        parts = strict_json(reply[start : end + 1]) if 0 <= start < end else None
    except (ValueError, RecursionError):
        parts = None
    if not isinstance(parts, list):
        return [], 1
    lineage = Lineage(model, method, asked, tuple(each.row_id for each in seeds), seeds[0].group if seeds else "")
    found: list[Candidate] = []
    for part in parts:
        text = part.get("input") if isinstance(part, dict) else None
        answer = part.get("output") if isinstance(part, dict) else None
        if isinstance(answer, dict | list) and spec.output.format == "json":
            answer = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
        if isinstance(text, str) and text.strip() and isinstance(answer, str) and answer.strip():
            found.append(Candidate(text.strip(), answer.strip(), category, lineage))
    return found, len(parts) - len(found)


def weakest(counts: Mapping[str, int], lacking: Mapping[str, int]) -> list[str]:
    """Categories in the order in which they need examples: what the policy says they lack, then the fewest rows."""
    return sorted({*counts, *lacking}, key=lambda name: (-lacking.get(name, 0), counts.get(name, 0), name))


def row_of(approved: Mapping[str, Any], public: Callable[[str], str]) -> Row:
    """The row of an approved candidate; the group of its seeds is called by its `public` name."""
    lineage = json.loads(approved["lineage"])
    if lineage.get("group"):
        lineage["group"] = public(lineage["group"])
    return Row(
        row_id=approved["row_id"],
        kind=SYNTHETIC,
        source=f"synthetic:{lineage.get('model', '')}",
        input=approved["input"],
        answer=approved["answer"],
        signal="good",
        created_at=_EPOCH,
        dated=False,
        category=approved["category"] or None,
        lineage=json.dumps(lineage, sort_keys=True, separators=(",", ":")),
    )


def places_of(rows: Sequence[Row], placed: Mapping[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Where synthetic rows stand: in their seed's group, on the side where that group has always been."""
    splits = dict(placed.values())
    groups = {row.row_id: str(json.loads(row.lineage or "{}").get("group", "")) for row in rows}
    return {row_id: (group, splits.get(group, TRAIN)) for row_id, group in groups.items() if group}
