"""Reading a task file: every mistake is named with its line and, for a typo, the nearest valid key."""

import difflib
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from libs.contracts.errors import InvalidInput
from libs.contracts.task import TaskSpec

Location = tuple[str | int, ...]

MOST_ENTRIES = 20_000
"""A task file is written by a person; what aliases blow up beyond this was not."""


def parse_task(text: str, name: str = "task.yaml") -> TaskSpec:
    """The task that `text` declares; InvalidInput names file, line, key and the nearest valid key."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if _too_large(node):
            raise InvalidInput(f"{name}: more than {MOST_ENTRIES} entries, aliases written out", field=name)
        data = yaml.safe_load(text)
    except RecursionError as error:
        raise InvalidInput(f"{name}: nested too deeply", field=name) from error
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
        raise InvalidInput("; ".join(problems), field=_dotted(_resolve(error.errors()[0]["loc"])[0])) from error


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys a section accepts, as written in the file."""
    return [field.alias or key for key, field in model.model_fields.items()]


def _describe(problem: Any, lines: dict[Location, int], name: str) -> str:
    location, section = _resolve(tuple(problem["loc"]))
    known = location
    while known and known not in lines:
        known = known[:-1]
    where = f"{name}:{lines.get(known, 1)}"
    if problem["type"] == "extra_forbidden":
        valid = keys_of(section)
        near = difflib.get_close_matches(str(location[-1]), valid, n=1, cutoff=0.0)
        return (
            f"{where}: unknown key {_dotted(location)!r}; did you mean {near[0]!r}?"
            if near
            else f"{where}: unknown key {_dotted(location)!r}"
        )
    return f"{where}: {_dotted(location)}: {problem['msg'].removeprefix('Value error, ')}"


def _resolve(location: Location) -> tuple[Location, type[BaseModel]]:
    """The place as written in the file (pydantic adds the tag of a union's member), and the section that holds it."""
    model: type[BaseModel] = TaskSpec
    plain: list[str | int] = []
    members: tuple[type[BaseModel], ...] = ()
    for at, part in enumerate(location):
        tagged = [member for member in members if _tag(member) == part]
        if len(members) > 1 and tagged:
            model, members = tagged[0], ()
            continue
        plain.append(part)
        if isinstance(part, int) or at == len(location) - 1:
            continue
        field = next((f for k, f in model.model_fields.items() if part in (k, f.alias)), None)
        members = tuple(_models_in(field.annotation)) if field else ()
        if members:
            model = members[0]
    return tuple(plain), model


def _tag(member: type[BaseModel]) -> object:
    kinds = (f.annotation for f in member.model_fields.values() if get_origin(f.annotation) is Literal)
    return next((values[0] for kind in kinds if len(values := get_args(kind)) == 1), None)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _too_large(node: yaml.Node | None) -> bool:
    """Whether the document, aliases written out, has too many entries; one that contains itself has."""
    left, entries = [node], 0
    while left and entries <= MOST_ENTRIES:
        entries += 1
        each = left.pop()
        if isinstance(each, yaml.MappingNode):
            left += [part for pair in each.value for part in pair]
        elif isinstance(each, yaml.SequenceNode):
            left += each.value
    return entries > MOST_ENTRIES


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
