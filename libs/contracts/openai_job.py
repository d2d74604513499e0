"""A fine-tuning job of OpenAI's API, as it was sent or as it is told, as a task of ours."""

import json
import re
from typing import Any

import yaml
from pydantic import ValidationError

from libs.contracts.errors import InvalidInput
from libs.contracts.task import TaskSpec
from libs.contracts.task.recipe import DpoRecipe, LoraRecipe

_METHODS: dict[str, type[LoraRecipe] | type[DpoRecipe]] = {"supervised": LoraRecipe, "dpo": DpoRecipe}
_JOB = ("training_file", "model")
_SPLIT = {"train": 0.75, "validation": 0.0, "test": 0.25}
"""Where a file of its own validates: the gates' suite still comes out of the training file, which has no test file."""
_DROPPED = ("integrations", "metadata")


def task_of(job_text: str, base: str, task: str = "") -> str:
    """The task file, as YAML, that a job config amounts to, headed by how its files are imported.

    `base` is the model to train in place of theirs; the task is named by `task`, else by the job's suffix. `auto` is
    left to our defaults. Rows of the validation file validate and never train. Raises InvalidInput where it is no job,
    or one of a method there is none for here.
    """
    job = _job(job_text)
    method, given = _method(job)
    ours = _METHODS.get(method)
    if ours is None:
        raise InvalidInput(f"{method!r} is none of {', '.join(_METHODS)}", field="method.type")
    defaults = ours()
    recipe: dict[str, Any] = {"method": defaults.method}
    for theirs, mine in (("n_epochs", "epochs"), ("batch_size", "batch_size"), ("beta", "beta")):
        if _number(given, theirs) is not None and (theirs != "beta" or ours is DpoRecipe):
            recipe[mine] = given[theirs]
    multiplier = _number(given, "learning_rate_multiplier")
    if multiplier is not None:
        # Theirs multiplies a rate of theirs; the rate ours begins with stands in for it.
        recipe["learning_rate"] = float(f"{defaults.learning_rate * multiplier:.6g}")
    if isinstance(job.get("seed"), int):
        recipe["seed"] = job["seed"]
    name = task or _named(str(job.get("suffix") or job.get("user_provided_suffix") or "")) or "imported"
    validates = job.get("validation_file") if isinstance(job.get("validation_file"), str) else None
    data = {"split": _SPLIT, "curation": {"validation_sources": [validates]}} if validates else None
    spec = {
        "task": name, "description": f"from a fine-tuning job on {job['model']} with {job['training_file']}",
        "base": base, **({"data": data} if data else {}), "recipe": recipe, "triggers": {"on_import": False},
    }  # fmt: skip
    try:
        TaskSpec.model_validate(spec)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(str(first["msg"]), field=".".join(map(str, first["loc"]))) from error
    return _head(job, name, validates) + yaml.safe_dump(spec, sort_keys=False, allow_unicode=True)


def _head(job: dict[str, Any], task: str, validates: str | None) -> str:
    """What to do next, and what of the job has no place here, as comments."""
    files = [(job["training_file"], "trains"), *([(validates, "validates, and never trains")] if validates else [])]
    told = [f"# pawl import {name}.jsonl --task {task} --source {name}  # {what}" for name, what in files]
    told += [f"# pawl turn {task}  # once they are in"]
    told += [f"# not carried over: {name}" for name in _DROPPED if job.get(name)]
    return "".join(f"{' '.join(line.split())}\n" for line in told)


def _job(text: str) -> dict[str, Any]:
    try:
        job = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the job is not JSON: {error}", field="job") from error
    missing = [name for name in _JOB if not isinstance(job, dict) or not isinstance(job.get(name), str)]
    if missing:
        raise InvalidInput(f"a fine-tuning job has a {missing[0]}", field=missing[0])
    return dict(job)


def _method(job: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The method and its hyperparameters: in `method`, or beside it as older jobs have them."""
    method = job.get("method")
    kind = str(method.get("type") or "supervised") if isinstance(method, dict) else "supervised"
    own = method.get(kind) if isinstance(method, dict) else None
    given = own.get("hyperparameters") if isinstance(own, dict) else None
    older = job.get("hyperparameters")
    return kind, {**(older if isinstance(older, dict) else {}), **(given if isinstance(given, dict) else {})}


def _number(given: dict[str, Any], name: str) -> float | None:
    value = given.get(name, "auto")
    if value in ("auto", None):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidInput(f"must be a number or 'auto', not {value!r}", field=f"hyperparameters.{name}")
    return value


def _named(suffix: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", suffix.lower()).strip("-")[:40]
