"""Who contends: the arms of the task file, whom each asks and how it dresses a question."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from libs.contracts.commands import Contender, EvaluateModel
from libs.contracts.errors import FailedPrecondition, InvalidInput
from libs.contracts.inference import Message
from libs.contracts.subjects import version_name
from libs.contracts.task import ArmSpec
from libs.contracts.task.evaluation import is_digest
from libs.contracts.tooling import read_message
from services.evaluator.compute.search import Search
from services.evaluator.domain.answers import answer_key
from services.evaluator.domain.prompts import Recipe, dress, passages_of
from services.evaluator.domain.suite import Item
from services.evaluator.handlers.generation import Job

DRESSED = ("task", "edge", "items")
"""Kinds of suites whose questions are the task's own; others are asked bare."""
_MOST_EXAMPLES = 50_000
_MOST_DOCUMENT_BYTES = 64 << 20
_TEXTS = (".txt", ".md", ".rst", ".html", ".csv", ".json", ".jsonl", ".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Entrant:
    """One arm before it has answered."""

    name: str
    kind: str
    version: int
    digest: str
    model: str
    recipe: Recipe
    outside: str = ""
    engine: str = ""


class Library:
    """Texts that questions are dressed with."""

    def __init__(self, examples: Sequence[tuple[Message, Message]], passages: Sequence[str]) -> None:
        self._examples, self._passages = examples, passages
        self._by_question = Search([question.content for question, _ in examples])
        self._by_passage = Search(passages)

    def dressed(self, item: Item, system: str, recipe: Recipe) -> tuple[tuple[Message, ...], ...]:
        """The messages of an item for a recipe, the fullest first."""
        question = item.messages[-1].content
        examples = [self._examples[place] for place in self._by_question.like(question, recipe.shots)]
        passages = [self._passages[place] for place in self._by_passage.like(question, recipe.passages)]
        return dress(item.messages, system, recipe, examples, passages)


def entrants(command: EvaluateModel, engines: Mapping[str, str]) -> list[Entrant]:
    """The arms of the task file, the candidate first.

    Args:
        command: Names the versions.
        engines: Name of the outside model of each external arm.

    Raises:
        InvalidInput: Two arms share a name, or one version is given two digests.
        FailedPrecondition: An arm asks a version that the command does not name.
    """
    versions = _versions(command)
    specs = command.spec.evaluation.arms
    made = [_entrant(command, spec, versions, engines) for spec in specs if spec.kind == "fine_tuned"]
    return made + [_entrant(command, spec, versions, engines) for spec in specs if spec.kind != "fine_tuned"]


def jobs_of(
    entrant: Entrant, kind: str, items: Sequence[Item], command: EvaluateModel, library: Library, occasion: str = ""
) -> list[Job]:
    """One job for each item of a suite of `kind`."""
    system, limit = command.spec.system, command.spec.output.max_tokens
    outside = f"{command.report_id}" if entrant.outside else ""
    jobs = []
    for item in items:
        bare = entrant.recipe.bare or kind not in DRESSED
        variants = (item.messages,) if bare else library.dressed(item, system, entrant.recipe)
        messages = variants[0]
        if entrant.outside and system and not any(message.role == "system" for message in messages):
            # The gateway adds the task's system prompt for its own; nobody does for a model outside.
            variants = tuple((Message(role="system", content=system), *each) for each in variants)
            messages = variants[0]
        who = entrant.digest or entrant.engine
        key = answer_key(who, system, messages, limit, occasion or outside, item.tools)
        jobs.append(
            Job(key, entrant.name, item.item_id, entrant.model, entrant.digest, variants, entrant.outside, item.tools)
        )
    return jobs


def read_examples(tree: Path) -> list[tuple[Message, Message]]:
    """Questions and their answers of a dataset's train split. Raises InvalidInput naming the line that is wrong."""
    file = tree / "train.jsonl"
    if not file.is_file():
        raise InvalidInput("the dataset holds no train.jsonl to draw examples from", field="dataset_digest")
    examples = []
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                messages = [read_message(each) for each in json.loads(line)["messages"]]
                asked = next(each for each in reversed(messages) if each.role == "user")
                answered = next(each for each in reversed(messages) if each.role == "assistant")
            except (ValueError, KeyError, TypeError, AttributeError, StopIteration, InvalidInput) as error:
                raise InvalidInput(
                    f"line {number} of train.jsonl is no example: {error!r}", field="messages"
                ) from error
            examples.append((asked, answered))
            if len(examples) == _MOST_EXAMPLES:
                break
    return examples


def read_passages(tree: Path) -> list[str]:
    """Passages of all text files below a directory, in the order of their names."""
    found: list[str] = []
    size = 0
    for file in sorted(path for path in tree.rglob("*") if path.is_file() and path.suffix.lower() in _TEXTS):
        size += file.stat().st_size
        if size > _MOST_DOCUMENT_BYTES:
            raise InvalidInput(f"documents have more than {_MOST_DOCUMENT_BYTES} bytes", field="evaluation.documents")
        found.extend(passages_of(file.read_text(encoding="utf-8", errors="replace")))
    if not found:
        raise InvalidInput(f"no text in the documents: files of {', '.join(_TEXTS)}", field="evaluation.documents")
    return found


def _entrant(
    command: EvaluateModel, spec: ArmSpec, versions: Mapping[str, Contender], engines: Mapping[str, str]
) -> Entrant:
    if spec.kind == "external":
        recipe = Recipe(spec.system, 0, 0)
        return Entrant(spec.name, "external", 0, "", spec.name, recipe, spec.name, f"outside:{engines[spec.name]}")
    asked = spec.kind if spec.kind in ("base", "fine_tuned", "stable") else spec.asks
    version = versions.get(asked)
    if version is None:
        raise FailedPrecondition(
            f"arm {spec.name!r} asks {asked}, which this evaluation was not told", field="baselines"
        )
    kind = spec.kind if asked == spec.kind else f"{spec.kind}/{asked}"
    model = version_name(command.task, version.version)
    return Entrant(spec.name, kind, version.version, version.digest, model, _recipe(command, spec))


def _recipe(command: EvaluateModel, spec: ArmSpec) -> Recipe:
    if spec.kind == "prompt":
        return Recipe(spec.system, spec.shots, 0, command.dataset_digest if spec.shots else "")
    if spec.kind == "retrieval":
        documents = command.spec.evaluation.documents or ""
        if not is_digest(documents):
            raise InvalidInput(
                f"the documents {documents!r} were not uploaded: apply the task with `pawl apply`",
                field="evaluation.documents",
            )
        return Recipe(spec.system, spec.shots, spec.passages, f"{documents}/{command.dataset_digest}")
    return Recipe()


def _versions(command: EvaluateModel) -> dict[str, Contender]:
    contenders = (command.candidate, *command.baselines)
    names = [contender.name for contender in contenders]
    if len(set(names)) != len(names):
        raise InvalidInput(f"two arms share a name: {', '.join(names)}", field="baselines")
    digests: dict[int, str] = {}
    for contender in contenders:
        if digests.setdefault(contender.version, contender.digest) != contender.digest:
            raise InvalidInput(f"version {contender.version} is given two digests", field="baselines")
    return {"fine_tuned": command.candidate, **{each.name: each for each in command.baselines}}
