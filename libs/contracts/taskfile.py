"""Reading a task file: every mistake is named with its line and, for a typo, the nearest valid key."""

import difflib
from collections.abc import Iterator
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from libs.contracts.errors import InvalidInput
from libs.contracts.task import TaskSpec

Location = tuple[str | int, ...]


def parse_task(text: str, name: str = "task.yaml") -> TaskSpec:
    """The task that `text` declares; InvalidInput names file, line, key and the nearest valid key."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        raise InvalidInput(f"{where}: not YAML: {getattr(error, 'problem', None) or error}", field=name) from error
    if not isinstance(data, dict):
        raise InvalidInput(
            f"{name}:1: a task file is a mapping with the keys {', '.join(keys_of(TaskSpec))}", field=name
        )
    lines = dict(_lines(node))
    for location, message in _duplicates(node):
        raise InvalidInput(f"{name}:{lines.get(location, 1)}: {message}", field=_dotted(location))
    try:
        return TaskSpec.model_validate(data)
    except ValidationError as error:
        problems = [_describe(problem, lines, name) for problem in error.errors()]
        raise InvalidInput("; ".join(problems), field=_dotted(error.errors()[0]["loc"])) from error


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys a section accepts, as written in the file."""
    return [field.alias or key for key, field in model.model_fields.items()]


def _describe(problem: Any, lines: dict[Location, int], name: str) -> str:
    location: Location = tuple(problem["loc"])
    known = location
    while known and known not in lines:
        known = known[:-1]
    where = f"{name}:{lines.get(known, 1)}"
    if problem["type"] == "extra_forbidden":
        valid = keys_of(_section_at(location[:-1]))
        near = difflib.get_close_matches(str(location[-1]), valid, n=1, cutoff=0.0)
        return (
            f"{where}: unknown key {_dotted(location)!r}; did you mean {near[0]!r}?"
            if near
            else f"{where}: unknown key {_dotted(location)!r}"
        )
    return f"{where}: {_dotted(location)}: {problem['msg'].removeprefix('Value error, ')}"


def _section_at(location: Location) -> type[BaseModel]:
    """The model that validates the mapping at `location`."""
    model: type[BaseModel] = TaskSpec
    for part in location:
        if isinstance(part, int):
            continue
        field = next((f for k, f in model.model_fields.items() if part in (k, f.alias)), None)
        nested = _model_in(field.annotation) if field else None
        if nested is None:
            return model
        model = nested
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _model_in(argument))), None)


def _lines(node: yaml.Node | None, path: Location = ()) -> Iterator[tuple[Location, int]]:
    if node is None:
        return
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from ((location, max(line, 1)) for location, line in _lines(value, (*path, key.value)))
            yield (*path, key.value), key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, (*path, index))


def _duplicates(node: yaml.Node | None, path: Location = ()) -> Iterator[tuple[Location, str]]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            location = (*path, key.value)
            if key.value in seen:
                yield location, f"key {_dotted(location)!r} is given twice"
            seen.add(key.value)
            yield from _duplicates(value, location)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _duplicates(value, (*path, index))


def _dotted(location: Location) -> str:
    return ".".join(str(part) for part in location)
