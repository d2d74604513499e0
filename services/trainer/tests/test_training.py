"""What the training process does with a job: the same bits twice, resumed or not, and clear words when it cannot."""

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from libs.contracts.task import recipe_of
from libs.testing.models import tiny_base
from services.trainer.clients.workspace import verified_step
from services.trainer.compute.job import run_job
from services.trainer.compute.methods.completion import Completion
from services.trainer.compute.parity import log_probs
from services.trainer.domain.protocol import Job
from services.trainer.tests.support import write_dataset

GOLDEN = Path(__file__).parent / "golden" / "lora_tiny.txt"
DIGEST = f"sha256:{'0' * 64}"


class Recorder:
    """A channel that keeps what is said and can ask to stop after a step."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.said: list[dict[str, Any]] = []
        self._stop_after = stop_after
        self._asked = 0

    def send(self, message: Mapping[str, Any]) -> None:
        self.said.append(dict(message))

    def receive(self, timeout: float | None = 0.0) -> dict[str, Any] | None:
        self._asked += 1
        return {"kind": "stop"} if self._asked == self._stop_after else None

    def last(self, kind: str) -> dict[str, Any]:
        found = [word for word in self.said if word["kind"] == kind]
        assert found, self.said[-1]
        return found[-1]


def job_of(base: Path, dataset: Path, workspace: Path, **more: Any) -> Job:
    recipe = {"learning_rate": 3e-3, "rank": 8, "batch_size": 8, "max_steps": 12, "checkpoint_steps": 5, "epochs": 9}
    fields: dict[str, Any] = {
        name: more.pop(name) for name in ("resume_from", "continue_from", "split", "cache", "system") if name in more
    }
    precision = more.pop("precision", "fp32")
    for name in ("teacher", "replay"):
        if f"{name}_directory" in more:
            fields[name] = more.pop(f"{name}_directory")
    wanted = {name: value for name, value in {**recipe, **more}.items() if value is not None}
    return Job(
        run_id="run-1", base=str(base), base_digest=DIGEST, dataset=str(dataset), dataset_digest=DIGEST,
        workspace=str(workspace), recipe=recipe_of(**wanted), device="cpu", precision=precision, threads=1,
        **fields,
    )  # fmt: skip


def train(base: Path, dataset: Path, workspace: Path, stop_after: int | None = None, **more: Any) -> Recorder:
    channel = Recorder(stop_after)
    run_job(job_of(base, dataset, workspace, **more), channel)
    return channel


def weights(channel: Recorder) -> bytes:
    return (Path(channel.last("finished")["path"]) / "adapter_model.safetensors").read_bytes()


def test_the_same_job_gives_the_same_bytes_twice_and_another_seed_others(
    base: Path, dataset: Path, tmp_path: Path
) -> None:
    first = train(base, dataset, tmp_path / "first")
    again = train(base, dataset, tmp_path / "again")
    other = train(base, dataset, tmp_path / "other", seed=1)
    assert weights(first) == weights(again)
    assert weights(first) != weights(other)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_run_stopped_and_resumed_ends_with_the_bytes_of_one_that_never_stopped(
    base: Path, dataset: Path, tmp_path: Path, dropout: float
) -> None:
    whole = train(base, dataset, tmp_path / "whole", dropout=dropout)
    stopped = train(base, dataset, tmp_path / "parts", stop_after=7, dropout=dropout)
    assert stopped.last("stopped")["step"] == 7
    checkpoint = Path(stopped.last("saved")["path"])
    assert verified_step(checkpoint) == 7
    resumed = train(base, dataset, tmp_path / "parts", resume_from=str(checkpoint), dropout=dropout)
    assert resumed.last("ready")["start_step"] == 7
    assert weights(resumed) == weights(whole)
    assert resumed.last("finished")["loss_curve"] == whole.last("finished")["loss_curve"]


def test_accumulating_gradients_learns_what_the_whole_batch_would(base: Path, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data", 8)
    whole = train(base, dataset, tmp_path / "whole", max_steps=4)
    parts = train(base, dataset, tmp_path / "parts", max_steps=4, batch_size=4, gradient_accumulation=2)
    losses = [[loss for _, loss in run.last("finished")["loss_curve"]] for run in (whole, parts)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_full_disk_is_called_one_and_may_be_tried_again(
    base: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("services.trainer.compute.checkpoint.write", full)
    failed = train(base, dataset, tmp_path / "run").last("failed")
    assert (failed["reason"], failed["again"]) == ("DISK_FULL", True)


def test_a_checkpoint_of_other_inputs_is_refused(base: Path, dataset: Path, tmp_path: Path) -> None:
    made = train(base, dataset, tmp_path / "a", max_steps=2)
    refused = train(base, dataset, tmp_path / "b", max_steps=3, resume_from=made.last("saved")["path"])
    assert refused.last("failed")["reason"] == "CHECKPOINT_FOREIGN"
    assert not refused.last("failed")["again"]


def test_another_architecture_trains_the_same_way(dataset: Path, tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "qwen3", architecture="qwen3")
    curve = train(base, dataset, tmp_path / "run", max_steps=30).last("finished")["loss_curve"]
    assert curve[-1][1] < curve[0][1] - 0.5


def test_training_can_go_on_from_an_adapter(base: Path, dataset: Path, tmp_path: Path) -> None:
    first = train(base, dataset, tmp_path / "first", max_steps=30).last("finished")
    second = train(base, dataset, tmp_path / "second", continue_from=first["path"]).last("finished")
    assert second["loss_curve"][0][1] < first["loss_curve"][0][1] - 0.5
    refused = train(base, dataset, tmp_path / "third", continue_from=first["path"], rank=16)
    assert refused.last("failed")["reason"] == "RANK_CHANGED"


def test_the_stop_token_is_trained_and_the_question_is_not(base: Path, dataset: Path, tmp_path: Path) -> None:
    ready = train(base, dataset, tmp_path / "marked", max_steps=1).last("ready")
    assert ready["xray"] == "sum 0<|end|>"


def test_a_template_without_marks_trains_the_same_tokens(base: Path, dataset: Path, tmp_path: Path) -> None:
    plain = tiny_base(tmp_path / "plain")
    template = plain / "chat_template.jinja"
    text = template.read_text().replace("{% generation %}", "").replace("{% endgeneration %}", "")
    template.write_text(text)
    marked = train(base, dataset, tmp_path / "marked", max_steps=2)
    unmarked = train(plain, dataset, tmp_path / "unmarked", max_steps=2)
    assert weights(marked) == weights(unmarked)


def test_rows_that_are_too_long_are_dropped_and_counted_never_cut(base: Path, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data", 20)
    long = {"role": "user", "content": "x" * 400}
    row = {"row_id": "long", "messages": [long, {"role": "assistant", "content": "y"}]}
    with (dataset / "train.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    ready = train(base, dataset, tmp_path / "run", max_steps=1, max_length=256).last("ready")
    assert (ready["rows"], ready["too_long"]) == (20, 1)
    (dataset / "train.jsonl").write_text(json.dumps(row) + "\n")
    assert train(base, dataset, tmp_path / "none", max_length=256).last("failed")["reason"] == "NOTHING_FITS"


@pytest.mark.parametrize(
    ("text", "reason", "named"),
    [
        ("", "DATASET_EMPTY", "no training rows"),
        ("{}\n", "DATASET_INVALID", "line 1"),
        ('{"row_id": "a", "messages": [{"role": "user", "content": "b"}]}\n', "DATASET_INVALID", "line 1"),
    ],
)
def test_a_bad_dataset_fails_with_the_line(base: Path, tmp_path: Path, text: str, reason: str, named: str) -> None:
    (tmp_path / "train.jsonl").write_text(text)
    failed = train(base, tmp_path, tmp_path / "run").last("failed")
    assert failed["reason"] == reason
    assert named in failed["message"]


def test_a_base_that_is_no_model_fails_with_its_reason(dataset: Path, tmp_path: Path) -> None:
    broken = tiny_base(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"not weights")
    failed = train(broken, dataset, tmp_path / "run").last("failed")
    assert failed["reason"] == "BASE_INVALID"
    assert not failed["again"]


def test_a_loss_that_is_not_a_number_stops_the_run_and_names_the_rows(
    base: Path, dataset: Path, tmp_path: Path
) -> None:
    # So large a scale is infinite in fp32, and infinity times the zeros that LoRA starts from is not a number.
    failed = train(base, dataset, tmp_path / "run", alpha=10**40).last("failed")
    assert failed["reason"] == "NAN_LOSS"
    assert "rows of the batch: row-" in failed["message"]


def test_a_step_that_runs_out_of_memory_is_taken_again_in_smaller_pieces_of_the_same_batch(
    base: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(base, dataset, tmp_path / "whole", max_steps=6)
    losses = Completion.loss

    def scarce(self: Completion, learner: Any, batch: Any) -> Any:
        if len(batch.items) > 3:
            raise torch.OutOfMemoryError("DefaultCPUAllocator: can't allocate memory")
        return losses(self, learner, batch)

    monkeypatch.setattr(Completion, "loss", scarce)
    parts = train(base, dataset, tmp_path / "parts", max_steps=6)
    squeezed = [word for word in parts.said if word["kind"] == "squeezed"]
    assert [(word["step"], word["split"]) for word in squeezed] == [(1, 2), (1, 4)]
    assert parts.last("finished")["split"] == 4
    curves = [[loss for _, loss in run.last("finished")["loss_curve"]] for run in (whole, parts)]
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)


def test_memory_that_does_not_hold_one_row_ends_the_run_with_what_to_change(
    base: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise MemoryError("can't allocate memory: you tried to allocate 999 bytes")

    monkeypatch.setattr(Completion, "loss", never)
    failed = train(base, dataset, tmp_path / "run").last("failed")
    assert failed["reason"] == "OUT_OF_MEMORY"
    assert "qlora" in failed["message"]
    assert "recipe.max_length" in failed["message"]


def test_a_run_ends_when_validation_stops_improving_and_keeps_its_best_weights(base: Path, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", 40)
    rows = [json.loads(line) for line in (data / "train.jsonl").read_text().splitlines()[:8]]
    for row in rows:
        row["messages"][-1]["content"] = "zzz" + row["messages"][-1]["content"][::-1]
    (data / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options: dict[str, Any] = {
        "max_steps": 60, "learning_rate": 1e-2, "validation": {"every_steps": 2, "patience": 3},
        "samples": {"every_steps": 10, "rows": 1, "max_tokens": 4},
    }  # fmt: skip
    whole = train(base, data, tmp_path / "whole", **options)
    done = whole.last("finished")
    best = min(done["validation"], key=lambda point: point[1])
    assert done["steps"] < 60
    assert done["best_step"] == best[0] == done["steps"] - 6
    sample = whole.last("sampled")["samples"][0]
    assert sample["wanted"].startswith("zzz")
    assert sample["said"]
    stopped = train(base, data, tmp_path / "parts", stop_after=done["best_step"] + 3, **options)
    again = train(base, data, tmp_path / "parts", resume_from=stopped.last("saved")["path"], **options)
    assert weights(again) == weights(whole)


@pytest.mark.parametrize(
    ("options", "reason", "mend"),
    [
        ({"max_length": 4096}, "OVER_CONTEXT", "set it to 512"),
        ({"max_length": 32, "max_dropped": 0.1}, "TOO_MANY_DROPPED", "raise recipe.max_length"),
        ({"max_length": 48, "long_rows": "refuse"}, "ROWS_TOO_LONG", "drop them"),
    ],
)
def test_rows_and_context_that_do_not_go_together_are_refused_with_the_mend(
    base: Path, dataset: Path, tmp_path: Path, options: dict[str, Any], reason: str, mend: str
) -> None:
    failed = train(base, dataset, tmp_path / "run", **options).last("failed")
    assert failed["reason"] == reason
    assert mend in failed["message"]


def test_a_base_without_a_chat_template_is_refused_with_the_mend(dataset: Path, tmp_path: Path) -> None:
    bare = tiny_base(tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    failed = train(bare, dataset, tmp_path / "run").last("failed")
    assert failed["reason"] == "NO_CHAT_TEMPLATE"
    assert "chat_template.jinja" in failed["message"]


def test_an_adapter_carries_what_it_says_to_fixed_prompts_with_and_without_it(
    base: Path, dataset: Path, tmp_path: Path
) -> None:
    made = Path(train(base, dataset, tmp_path / "run", max_steps=30, system="Add.").last("finished")["path"])
    parity = json.loads((made / "parity.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), made).eval()
    assert parity["format"] == 1
    assert len(parity["items"]) >= 6
    for item in parity["items"]:
        assert item["messages"][0] == {"role": "system", "content": "Add."}
        rendered = tokenizer.apply_chat_template(item["messages"], add_generation_prompt=True, return_dict=True)
        assert rendered["input_ids"] == item["prompt_token_ids"]
        said = log_probs(model, item["prompt_token_ids"], item["completion_token_ids"], torch.device("cpu"))
        assert said == pytest.approx(item["logprobs"], abs=1e-3)
        with model.disable_adapter(), torch.no_grad():
            bare = log_probs(model, item["prompt_token_ids"], item["completion_token_ids"], torch.device("cpu"))
        assert bare == pytest.approx(item["base_logprobs"], abs=1e-3)
    moved = [zip(item["logprobs"], item["base_logprobs"], strict=True) for item in parity["items"]]
    assert max(abs(ours - bare) for pairs in moved for ours, bare in pairs) > 0.5
    card = (made / "README.md").read_text()
    assert DIGEST in card
    assert "| rank | 8 |" in card


def test_the_loss_curve_is_the_recorded_one(base: Path, dataset: Path, tmp_path: Path) -> None:
    """Made by `python -m services.trainer.tests.test_training`; fp32 differs in the last digits between processors."""
    curve = train(base, dataset, tmp_path / "run", max_steps=30).last("finished")["loss_curve"]
    lines = [line.split("\t") for line in GOLDEN.read_text().splitlines() if not line.startswith("#")]
    assert [step for step, _ in curve] == [int(step) for step, _ in lines]
    assert [loss for _, loss in curve] == pytest.approx([float(loss) for _, loss in lines], abs=2e-3)


def record() -> None:
    """Write the golden curve."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        channel = train(tiny_base(home / "base"), write_dataset(home / "data"), home / "run", max_steps=30)
    lines = [f"{step}\t{loss:.6f}" for step, loss in channel.last("finished")["loss_curve"]]
    GOLDEN.parent.mkdir(exist_ok=True)
    head = "# step, loss of a rank 8 LoRA on a tiny random Llama; python -m services.trainer.tests.test_training"
    GOLDEN.write_text("\n".join([head, *lines]) + "\n")


if __name__ == "__main__":
    record()
