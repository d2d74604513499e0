"""Tasks of lm-eval, offline, in a process of their own: `python -m services.evaluator.compute.harness ASKED TOLD`.

ASKED is a JSON file {"tasks": [...], "limit": n, "seed": s, "answers": null or {item id: text}}, TOLD is written.
Without answers the prompts of the tasks are written down; with them, what lm-eval scores each answer. The working
directory holds the tasks' YAML files and their data. Nothing of Pawl but this file is needed where it runs.
"""

import json
import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

GENERATES = "generate_until"
_PROGRAMS = (".py", ".pyc", ".so", ".sh")
_FUNCTION = "!function"


class Unfit(Exception):
    """A task that cannot be evaluated here; the message says why and what would mend it."""


def main(asked_file: str, told_file: str) -> int:
    """Do what is asked; a task that is unfit is told as {"error": why}."""
    asked = json.loads(Path(asked_file).read_text(encoding="utf-8"))
    try:
        told: dict[str, Any] = _work(asked)
    except Unfit as error:
        told = {"error": str(error)}
    Path(told_file).write_text(json.dumps(told), encoding="utf-8")
    return 0


def _work(asked: dict[str, Any]) -> dict[str, Any]:
    here = Path.cwd()
    _check_files(here)
    try:
        import lm_eval
        from lm_eval.tasks import TaskManager
    except ModuleNotFoundError as error:
        raise Unfit(f"lm-eval is not installed for {sys.executable} ({error.name}): install pawl[harness]") from error
    try:
        found = TaskManager(include_path=str(here), include_defaults=False).load(list(asked["tasks"]))["tasks"]
    except Exception as error:
        raise Unfit(f"lm-eval cannot load {', '.join(asked['tasks'])}: {error}") from error
    items: list[dict[str, Any]] = []
    scores: dict[str, float] = {}
    for name, task in found.items():
        for item_id, doc, instance in _drawn(name, task, asked):
            if asked["answers"] is None:
                items.append({"item_id": item_id, "prompt": instance.args[0], "answer": str(task.doc_to_target(doc))})
            elif item_id in asked["answers"]:
                scores[item_id] = _score(name, task, doc, instance, asked["answers"][item_id])
    metrics = {name: _metric_of(task) for name, task in found.items()}
    return {"version": lm_eval.__version__, "items": items, "scores": scores, "metrics": metrics}


def _check_files(here: Path) -> None:
    """Refuse whatever would run: a task file of Pawl brings data and declarations, never programs."""
    for file in sorted(path for path in here.rglob("*") if path.is_file()):
        if file.suffix in _PROGRAMS:
            raise Unfit(f"{file.relative_to(here)} is a program: a harness suite holds YAML and data only")
        if file.suffix in (".yaml", ".yml") and _FUNCTION in file.read_text(encoding="utf-8"):
            raise Unfit(f"{file.relative_to(here)} calls a function ({_FUNCTION}): write it without one")


def _drawn(name: str, task: Any, asked: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    if task.OUTPUT_TYPE != GENERATES:
        raise Unfit(f"task {name} asks for {task.OUTPUT_TYPE}: serving tells texts, so only {GENERATES} will do")
    task.build_all_requests(rank=0, world_size=1)
    instances = [each for each in task.instances if each.idx == 0]
    random.Random(f"{name}/{asked['seed']}").shuffle(instances)
    share = math.ceil(asked["limit"] / len(asked["tasks"]))
    for instance in instances[:share]:
        yield f"harness:{name}:{instance.doc_id}", instance.doc, instance


def _score(name: str, task: Any, doc: Any, instance: Any, text: str) -> float:
    for stop in instance.args[1].get("until", ()):
        text = text.split(stop, maxsplit=1)[0] if stop else text
    instance.resps = [text]
    for chain in task._filters:  # noqa: SLF001 - lm-eval has no other door for one item
        chain.apply([instance])
    kept = next(iter(instance.filtered_resps.values()), text)
    results = task.process_results(doc, [kept])
    value = results[_metric_of(task)]
    if isinstance(value, bool | int | float) and 0.0 <= float(value) <= 1.0:
        return float(value)
    raise Unfit(f"task {name} scores {value!r} by {_metric_of(task)}: a score must be a number in [0, 1]")


def _metric_of(task: Any) -> str:
    return str(next(iter(task.aggregation())))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
