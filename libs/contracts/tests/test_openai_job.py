"""A job config of OpenAI's fine-tuning API becomes a task file that is valid as it stands."""

import json
from typing import Any

import pytest

from libs.contracts.errors import InvalidInput
from libs.contracts.openai_job import task_of
from libs.contracts.taskfile import parse_task

SENT: dict[str, Any] = {
    "training_file": "file-abc123",
    "validation_file": "file-def456",
    "model": "gpt-4o-mini-2024-07-18",
    "suffix": "Support Triage",
    "seed": 42,
    "method": {
        "type": "supervised",
        "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 0.5}},
    },
}
TOLD: dict[str, Any] = {
    "object": "fine_tuning.job",
    "id": "ftjob-abc123",
    "model": "gpt-3.5-turbo-0125",
    "created_at": 1721764800,
    "fine_tuned_model": None,
    "organization_id": "org-123",
    "result_files": [],
    "status": "queued",
    "validation_file": None,
    "training_file": "file-abc123",
    "hyperparameters": {"n_epochs": "auto", "batch_size": 8},
}


def test_a_job_as_it_is_sent_becomes_a_task() -> None:
    task = parse_task(task_of(json.dumps(SENT), "models/base"))
    assert (task.task, task.base, task.recipe.method) == ("support-triage", "models/base", "lora")
    assert (task.recipe.epochs, task.recipe.batch_size, task.recipe.seed) == (2, 16, 42)
    assert task.recipe.learning_rate == 1.5e-4
    assert task.data.curation.validation_sources == ("file-def456",)
    assert (task.data.split.validation, task.data.split.test > 0) == (0.0, True)


def test_the_task_says_how_its_files_come_in_and_what_is_left_behind() -> None:
    said = task_of(json.dumps({**SENT, "integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}), "b")
    head = [line for line in said.splitlines() if line.startswith("#")]
    assert head == [
        "# pawl import file-abc123.jsonl --task support-triage --source file-abc123 # trains",
        "# pawl import file-def456.jsonl --task support-triage --source file-def456 # validates, and never trains",
        "# pawl turn support-triage # once they are in",
        "# not carried over: integrations",
    ]
    alone = parse_task(task_of(json.dumps(TOLD), "b", "mine"))
    assert (alone.data.curation.validation_sources, alone.data.split.validation) == ((), 0.05)


def test_a_job_as_it_is_told_in_its_older_form_becomes_a_task() -> None:
    task = parse_task(task_of(json.dumps(TOLD), "b", "mine"))
    assert (task.task, task.recipe.epochs, task.recipe.batch_size) == ("mine", 3.0, 8)


def test_preference_jobs_keep_their_beta() -> None:
    job = {**SENT, "method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}}}
    recipe = parse_task(task_of(json.dumps(job), "b")).recipe
    assert (recipe.method, getattr(recipe, "beta", None)) == ("dpo", 0.2)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"method": {"type": "reinforcement"}}, "method.type"),
        ({"training_file": None}, "training_file"),
        ({"hyperparameters": {"n_epochs": "many"}, "method": None}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": 0}, "method": None}, "recipe.lora.epochs"),
    ],
)
def test_what_is_no_job_for_us_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        task_of(json.dumps({**SENT, **change}), "b")
    assert raised.value.field == field
