"""Several processes on one run take the steps of one, whole or shared out, and none is left waiting for another."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from libs.contracts.task import recipe_of
from libs.testing.servers import free_port
from services.trainer.clients.workspace import newest_verified
from services.trainer.compute.machine import Machine
from services.trainer.compute.survey import look
from services.trainer.domain.forecast import peak_of
from services.trainer.domain.protocol import CHECKPOINT_STATE, Survey
from services.trainer.tests.support import write_dataset
from services.trainer.tests.test_training import Recorder, job_of, train

SAME = 1e-4
"""Relative difference allowed between the losses of one process and of two, in fp32: sums in another order."""
_CODE = "import sys; from services.trainer.tests.test_processes import {}; {}(*sys.argv[1:])"


def losses(said: list[dict[str, Any]]) -> list[float]:
    return [loss for _, loss in last(said, "finished")["loss_curve"]]


def last(said: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    found = [word for word in said if word["kind"] == kind]
    assert found, said[-1]
    return found[-1]


def in_two(base: Path, dataset: Path, workspace: Path, scarce: str = "", **recipe: Any) -> list[dict[str, Any]]:
    """What the first of two processes says; `scarce` is where the second finds too little memory."""
    workspace.mkdir(parents=True, exist_ok=True)
    meeting = workspace / "rendezvous"
    meeting.unlink(missing_ok=True)
    arguments = [str(base), str(dataset), str(workspace), json.dumps(recipe), scarce]
    both = []
    for rank in "01":
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "PAWL_RENDEZVOUS": f"file://{meeting}"}
        both.append(
            subprocess.Popen(
                [sys.executable, "-c", _CODE.format("one_of_two", "one_of_two"), *arguments],
                env={**os.environ, **place}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
    try:
        told = [process.communicate(timeout=200) for process in both]
    finally:
        for process in both:
            process.kill()
    assert both[0].returncode == 0, told[0][1]
    said: list[dict[str, Any]] = json.loads(told[0][0].splitlines()[-1])
    return said


def one_of_two(base: str, dataset: str, workspace: str, recipe: str, scarce: str) -> None:
    """What each of the two runs."""
    if os.environ["RANK"] == "1" and scarce:
        run_short_of_memory(scarce)
    fields = {"processes": 2, "max_steps": 6, **json.loads(recipe)}
    stop_after = fields.pop("stop_after", None)
    channel = train(Path(base), Path(dataset), Path(workspace), stop_after=stop_after, **fields)
    sys.stdout.write("\n" + json.dumps(channel.said) + "\n")


def run_short_of_memory(scarce: str) -> None:
    from services.trainer.compute import stepper
    from services.trainer.compute.batches import collate
    from services.trainer.compute.methods.completion import Completion

    loss = Completion.loss

    def small(items: Any, *more: Any) -> Any:
        if len(items) > 2:
            raise torch.OutOfMemoryError("can't allocate memory")
        return collate(items, *more)

    def less(self: Completion, learner: Any, batch: Any) -> Any:
        if len(batch.items) > 2:
            raise torch.OutOfMemoryError("can't allocate memory")
        return loss(self, learner, batch)

    if scarce == "collating":
        vars(stepper)["collate"] = small
    else:
        Completion.loss = less  # type: ignore[method-assign]


def launched(base: str, dataset: str, workspace: str) -> None:
    """A run that starts its second process by itself."""
    channel: Recorder = train(Path(base), Path(dataset), Path(workspace), max_steps=6, processes=2)
    sys.stdout.write("\n" + json.dumps(channel.said) + "\n")


def test_a_run_starts_its_other_processes_and_they_take_the_steps_of_one(
    base: Path, dataset: Path, tmp_path: Path
) -> None:
    alone = train(base, dataset, tmp_path / "alone", max_steps=6)
    paths = [str(each) for each in (base, dataset, tmp_path / "two")]
    code = _CODE.format("launched", "launched")
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert losses(json.loads(done.stdout.splitlines()[-1])) == pytest.approx(losses(alone.said), rel=SAME)


@pytest.mark.parametrize(
    "recipe",
    [
        {"kl_to_base": 0.1, "batch_size": 7, "validation": {"every_steps": 2, "patience": 9}, "samples": {"rows": 1}},
        {"method": "full", "rank": None, "learning_rate": 1e-3},
        {"method": "dpo"},
    ],
    ids=["lora", "full", "dpo"],
)
def test_weights_shared_out_over_two_processes_learn_what_they_do_in_one(
    base: Path, tmp_path: Path, recipe: dict[str, Any]
) -> None:
    """FSDP2 over gloo: the same losses, and as good as the same weights, exported for whoever loads them."""
    data = write_dataset(tmp_path / "data", 60)
    rows = [json.loads(line) for line in (data / "train.jsonl").read_text().splitlines()]
    (data / "train.jsonl").write_text("".join(json.dumps({**row, "rejected": "no"}) + "\n" for row in rows))
    (data / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:6]))
    alone = train(base, data, tmp_path / "alone", max_steps=6, **recipe)
    two = in_two(base, data, tmp_path / "two", shard=True, **recipe)
    assert losses(two) == pytest.approx(losses(alone.said), rel=SAME, abs=1e-5)
    for ours, theirs in zip(last(two, "finished")["validation"], alone.last("finished")["validation"], strict=True):
        assert ours == pytest.approx(theirs, rel=SAME)
    name = "model.safetensors" if recipe.get("method") == "full" else "adapter_model.safetensors"
    one, other = (load_file(Path(last(said, "finished")["path"]) / name) for said in (two, alone.said))
    assert one.keys() == other.keys()
    assert max(float((one[key].float() - other[key].float()).abs().max()) for key in one) < 2e-3
    said = [json.loads((tmp_path / each / "adapter" / "parity.json").read_text()) for each in ("two", "alone")]
    assert said[0]["precision"] == said[1]["precision"] == "fp32"
    assert said[0]["items"][0]["logprobs"] == pytest.approx(said[1]["items"][0]["logprobs"], abs=1e-2)


def test_a_base_in_half_the_precision_of_its_adapter_is_shared_out_too(
    base: Path, dataset: Path, tmp_path: Path
) -> None:
    recipe: dict[str, Any] = {"precision": "bf16", "packing": True, "max_length": 64, "batch_size": 4}
    alone = train(base, dataset, tmp_path / "alone", max_steps=6, **recipe)
    two = in_two(base, dataset, tmp_path / "two", shard=True, **recipe)
    assert losses(two) == pytest.approx(losses(alone.said), rel=2e-2)


@pytest.mark.parametrize("shard", [False, True], ids=["whole", "shared"])
def test_what_a_loss_needs_of_the_whole_step_is_summed_over_the_processes(
    base: Path, tmp_path: Path, *, shard: bool
) -> None:
    """KTO, whose divergence is the step's mean; in its last batch is an answer for one of the two alone."""
    data = write_dataset(tmp_path / "data", 8)
    rows = [json.loads(line) for line in (data / "train.jsonl").read_text().splitlines()]
    (data / "train.jsonl").write_text("".join(json.dumps({**row, "rejected": "no"}) + "\n" for row in rows))
    recipe: dict[str, Any] = {"method": "kto", "batch_size": 5, "max_steps": 8}
    alone = train(base, data, tmp_path / "alone", **recipe)
    two = in_two(base, data, tmp_path / "two", shard=shard, **recipe)
    assert losses(two) == pytest.approx(losses(alone.said), rel=SAME, abs=1e-5)


@pytest.mark.parametrize(
    "launcher",
    [
        ["torch.distributed.run", "--nproc-per-node", "2", "--master-port"],
        ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
         "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port"],
    ],
    ids=["torchrun", "accelerate"],
)  # fmt: skip
def test_processes_that_a_launcher_started_take_the_steps_of_one(
    base: Path, dataset: Path, tmp_path: Path, launcher: list[str]
) -> None:
    alone = train(base, dataset, tmp_path / "alone", max_steps=6)
    told = tmp_path / "job.json"
    job = job_of(base, dataset, tmp_path / "two", max_steps=6, processes=2)
    told.write_text(json.dumps({"job": job.model_dump(mode="json")}))
    command = [sys.executable, "-m", *launcher, str(free_port()), "-m", "services.trainer.compute.rank"]
    told_by = {**os.environ, "PAWL_RANK_JOB": str(told)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, env=told_by)
    assert done.returncode == 0, done.stderr
    newest = newest_verified(tmp_path / "two" / "checkpoints")
    assert newest is not None
    state = json.loads((newest[1] / CHECKPOINT_STATE).read_text())
    assert [loss for _, loss in state["curve"]] == pytest.approx(losses(alone.said), rel=SAME)
    assert (tmp_path / "two" / "adapter" / "adapter_model.safetensors").is_file()


def test_a_checkpoint_of_shared_out_weights_is_gone_on_from_by_any_number_of_processes(
    base: Path, dataset: Path, tmp_path: Path
) -> None:
    whole = train(base, dataset, tmp_path / "whole", max_steps=6)
    stopped = in_two(base, dataset, tmp_path / "two", shard=True, stop_after=3)
    assert last(stopped, "stopped")["step"] == 3
    newest = newest_verified(tmp_path / "two" / "checkpoints")
    assert newest is not None
    assert newest[0] == 3
    again = in_two(base, dataset, tmp_path / "two", shard=True, resume_from=str(newest[1]))
    assert losses(again) == pytest.approx(losses(whole.said), rel=SAME)
    alone = train(base, dataset, tmp_path / "one", max_steps=6, resume_from=str(newest[1]))
    assert losses(alone.said) == pytest.approx(losses(whole.said), rel=SAME)


def wider(base: Path, directory: Path) -> Path:
    """A base with the tokenizer of another and 25 million random weights."""
    config = AutoConfig.from_pretrained(base)
    config.update({"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8})
    config.update({"num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 64})
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"):
        if (base / name).is_file():
            shutil.copyfile(base / name, directory / name)
    return directory


def test_what_a_process_holds_of_shared_out_weights_is_what_the_plan_says(
    base: Path, dataset: Path, tmp_path: Path
) -> None:
    large = wider(base, tmp_path / "large")
    recipe: dict[str, Any] = {"method": "full", "rank": None, "shard": True, "max_steps": 3}
    two = in_two(large, dataset, tmp_path / "two", **recipe)
    held = last(two, "finished")["peak_memory_bytes"] - last(two, "ready")["baseline_bytes"]
    job = job_of(large, dataset, tmp_path, processes=2, **recipe)
    survey = Survey(
        base=job.base, base_digest=job.base_digest, dataset=job.dataset, recipe=job.recipe, precision="fp32"
    )
    planned = look(survey, Machine(torch.device("cpu"), torch.float32)).memory
    assert peak_of(planned, 0, "cpu")["peak"] == pytest.approx(held, rel=0.15)


@pytest.mark.parametrize("where", ["collating", "computing"])
def test_a_process_out_of_memory_has_all_of_them_take_the_step_again_in_smaller_pieces(
    base: Path, dataset: Path, tmp_path: Path, where: str
) -> None:
    whole = train(base, dataset, tmp_path / "whole", max_steps=6)
    two = in_two(base, dataset, tmp_path / "two", scarce=where)
    assert [(word["step"], word["split"]) for word in two if word["kind"] == "squeezed"] == [(1, 2)]
    assert losses(two) == pytest.approx(losses(whole.said), rel=SAME)


def test_memory_that_runs_out_in_the_middle_of_a_layer_ends_the_attempt_for_one_in_smaller_pieces(
    base: Path, dataset: Path, tmp_path: Path
) -> None:
    failed = last(in_two(base, dataset, tmp_path / "two", scarce="computing", shard=True), "failed")
    assert (failed["reason"], failed["again"]) == ("OUT_OF_MEMORY", True)
    whole = train(base, dataset, tmp_path / "whole", max_steps=6)
    again = in_two(base, dataset, tmp_path / "again", scarce="computing", shard=True, split=2)
    assert losses(again) == pytest.approx(losses(whole.said), rel=SAME)


@pytest.mark.parametrize(
    ("recipe", "named"),
    [({"shard": True}, "needs processes"), ({"method": "qlora", "shard": True, "processes": 2}, "4 bits")],
)
def test_what_cannot_be_shared_out_is_refused_as_the_task_is_read(recipe: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        recipe_of(**recipe)
