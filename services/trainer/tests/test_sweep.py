"""A search tries what the recipe declares, over one base, and says which values lost least on rows held out."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from libs.contracts.errors import InvalidInput
from libs.contracts.task import recipe_of
from services.trainer.compute import sweep
from services.trainer.compute.bases import load_model
from services.trainer.compute.failures import guarded
from services.trainer.domain.protocol import Job
from services.trainer.domain.sweeping import declared
from services.trainer.tests.support import write_dataset
from services.trainer.tests.test_training import DIGEST, Recorder

pytest.importorskip("optuna")


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset version with a validation split."""
    directory = write_dataset(tmp_path_factory.mktemp("rows"), 60)
    shutil.copyfile(write_dataset(tmp_path_factory.mktemp("more"), 12) / "train.jsonl", directory / "validation.jsonl")
    return directory


def searched(base: Path, dataset: Path, workspace: Path, space: dict[str, Any], **more: Any) -> Recorder:
    recipe = {"method": "lora", "rank": 8, "batch_size": 8, "learning_rate": 3e-3, "max_steps": 4, **more}
    job = Job(
        run_id="sweep", base=str(base), base_digest=DIGEST, dataset=str(dataset), dataset_digest=DIGEST,
        workspace=str(workspace), recipe=recipe_of(**recipe, sweep={"space": space, "trials": 4}), device="cpu",
        precision="fp32", threads=1,
    )  # fmt: skip
    channel = Recorder()
    guarded(lambda: sweep.search(job, channel), channel, recipe=job.recipe, directory=str(workspace))
    return channel


def test_a_search_names_the_values_that_lost_least_and_loads_the_base_once(
    base: Path, held_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[Path] = []

    def counted(place: Path, *more: Any, **options: Any) -> Any:
        loads.append(place)
        return load_model(place, *more, **options)

    monkeypatch.setattr(sweep, "load_model", counted)
    space = {"learning_rate": {"low": 1e-5, "high": 2e-2, "log": True}, "rank": [8, 16]}
    channel = searched(base, held_out, tmp_path, space)
    tried = [word for word in channel.said if word["kind"] == "tried"]
    best = channel.last("swept")
    assert len(tried) == 4
    assert len(loads) == 1
    ended = {word["trial"]: word for word in tried if not word["pruned"]}
    assert best["loss"] == min(word["loss"] for word in ended.values())
    assert best["values"] == ended[best["best"]]["values"]
    assert {word["values"]["rank"] for word in tried} <= {8, 16}


def test_a_trial_leaves_the_base_as_it_was(base: Path, held_out: Path, tmp_path: Path) -> None:
    channel = searched(base, held_out, tmp_path, {"learning_rate": [1e-2]})
    losses = [word["loss"] for word in channel.said if word["kind"] == "tried"]
    assert len(losses) == 4
    assert len(set(losses)) == 1


def test_a_search_without_rows_held_out_is_refused_with_the_mend(base: Path, dataset: Path, tmp_path: Path) -> None:
    failed = searched(base, dataset, tmp_path, {"rank": [8, 16]}).last("failed")
    assert failed["reason"] == "NO_VALIDATION"
    assert "data.split.validation" in failed["message"]


@pytest.mark.parametrize(
    ("space", "named"),
    [
        ({"max_length": [64]}, "max_length"),
        ({"rank": [8, 12]}, "rank"),
        ({"learning_rate": {"low": 0.1, "high": 5.0}}, "learning_rate"),
    ],
)
def test_a_space_that_holds_no_recipe_is_refused_by_name(space: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        declared(recipe_of(sweep={"space": space}))


@pytest.mark.parametrize("space", [{}, {"rank": []}, {"learning_rate": {"low": 1e-2, "high": 1e-3}}])
def test_a_space_without_values_is_no_space(space: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        recipe_of(sweep={"space": space})
