"""A search tries what the recipe declares, over one base, and says which values lost least on rows held out."""

import json
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
from services.trainer.compute.machine import Machine, choose
from services.trainer.compute.together import Together
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


def searched(
    base: Path, dataset: Path, workspace: Path, space: dict[str, Any], at_once: int = 1, **more: Any
) -> Recorder:
    recipe = {"method": "lora", "rank": 8, "batch_size": 8, "learning_rate": 3e-3, "max_steps": 4, **more}
    job = Job(
        run_id="sweep", base=str(base), base_digest=DIGEST, dataset=str(dataset), dataset_digest=DIGEST,
        workspace=str(workspace), device="cpu", precision="fp32", threads=1,
        recipe=recipe_of(**recipe, sweep={"space": space, "trials": 4, "at_once": at_once}),
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
    words = tried(channel)
    best = channel.last("swept")
    assert len(words) == 4
    assert len(loads) == 1
    ended = {word["trial"]: word for word in words if not word["pruned"]}
    assert best["loss"] == min(word["loss"] for word in ended.values())
    assert best["values"] == ended[best["best"]]["values"]
    assert {word["values"]["rank"] for word in words} <= {8, 16}


def test_a_trial_leaves_the_base_as_it_was(base: Path, held_out: Path, tmp_path: Path) -> None:
    channel = searched(base, held_out, tmp_path, {"learning_rate": [1e-2]})
    losses = [word["loss"] for word in channel.said if word["kind"] == "tried"]
    assert len(losses) == 4
    assert len(set(losses)) == 1


def tried(channel: Recorder) -> list[dict[str, Any]]:
    assert channel.said[-1]["kind"] == "swept", channel.said[-1]
    return [word for word in channel.said if word["kind"] == "tried"]


def test_trials_trained_in_one_pass_end_as_each_would_alone(
    base: Path, held_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    losses = Together.losses

    def counted(self: Together, batch: Any) -> Any:
        passes.append(len(self.names))
        return losses(self, batch)

    monkeypatch.setattr(Together, "losses", counted)
    space = {"learning_rate": [3e-3, 1e-2], "rank": [8, 16], "rslora": [True, False]}
    together = tried(searched(base, held_out, tmp_path / "together", space, at_once=4))
    assert set(passes) == {4}
    assert len({json.dumps(word["values"]) for word in together}) > 1
    for word in together:
        fixed = {name: [value] for name, value in word["values"].items()}
        alone = tried(searched(base, held_out, tmp_path / "alone", fixed))[0]
        assert word["loss"] == pytest.approx(alone["loss"], rel=2e-4)


def test_a_trial_that_goes_wrong_leaves_those_beside_it_alone(base: Path, held_out: Path, tmp_path: Path) -> None:
    words = tried(searched(base, held_out, tmp_path, {"alpha": [10**40, 16]}, at_once=4))
    bad = [word for word in words if word["values"]["alpha"] > 16]
    good = [word for word in words if word["values"]["alpha"] == 16]
    assert good
    assert bad
    assert all("gradient norm" in word["why"] and word["loss"] is None for word in bad)
    assert len({word["loss"] for word in good}) == 1


def test_trials_that_all_go_wrong_at_once_end_the_search_with_what_to_lower(
    base: Path, held_out: Path, tmp_path: Path
) -> None:
    channel = searched(base, held_out, tmp_path, {"alpha": [10**40]}, at_once=4)
    assert [word["loss"] for word in channel.said if word["kind"] == "tried"] == [None] * 4
    assert channel.last("failed")["reason"] == "NO_TRIAL"


def test_a_round_that_memory_does_not_hold_is_tried_one_by_one(
    base: Path, held_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise MemoryError("can't allocate memory")

    monkeypatch.setattr(Together, "losses", never)
    assert len(tried(searched(base, held_out, tmp_path, {"rank": [8, 16]}, at_once=4))) == 4


def test_a_search_over_a_recipe_of_several_processes_has_the_whole_model_in_its_own(
    base: Path, held_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines: list[Machine] = []

    def noted(job: Job) -> Machine:
        machines.append(choose(job))
        return machines[-1]

    monkeypatch.setattr(sweep, "choose", noted)
    shared = tried(searched(base, held_out, tmp_path / "shared", {"rank": [8, 16]}, processes=2, shard=True))
    assert [machine.shards for machine in machines] == [1]
    alone = tried(searched(base, held_out, tmp_path / "alone", {"rank": [8, 16]}))
    assert [word["loss"] for word in shared] == [word["loss"] for word in alone]


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
