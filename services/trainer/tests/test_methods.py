"""Each method learns what it is for, from rows that carry what it needs, and refuses rows that do not."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from libs.contracts.errors import FailedPrecondition
from libs.testing.models import tiny_base
from services.trainer.compute.export import export
from services.trainer.domain.protocol import Export
from services.trainer.tests.test_training import Recorder, train

ANSWERS = ("alpha beta", "gamma delta")
TRAINED = Path(__file__).parents[3] / "examples" / "support-triage" / "base"


def write_rows(directory: Path, count: int = 40, **more: Any) -> Path:
    """Rows whose answer is one of two; `more` adds fields, called with the row's number."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = []
    for row in range(count):
        messages = [
            {"role": "user", "content": f"say {row % 7}"},
            {"role": "assistant", "content": ANSWERS[row % 2]},
        ]
        fields = {name: make(row) for name, make in more.items()}
        lines.append(json.dumps({"row_id": f"row-{row}", "messages": messages, **fields}))
    (directory / "train.jsonl").write_text("\n".join(lines) + "\n")
    return directory


def losses(channel: Recorder) -> list[float]:
    return [loss for _, loss in channel.last("finished")["loss_curve"]]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_lora_over_a_base_in_four_bits_learns_and_is_shipped_like_any_other(
    base: Path, dataset: Path, tmp_path: Path, precision: str
) -> None:
    """In a process of its own, as the service starts it: the libraries look for bitsandbytes as they load."""
    code = "import sys; from services.trainer.tests.test_methods import in_four_bits; in_four_bits(*sys.argv[1:])"
    told = [*(str(each) for each in (base, dataset, tmp_path / "run")), precision]
    done = subprocess.run([sys.executable, "-c", code, *told], capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    curve = json.loads(done.stdout.splitlines()[-1])
    assert curve[-1][1] < curve[0][1] * 0.75
    assert json.loads((tmp_path / "run" / "adapter" / "parity.json").read_text())["precision"] == "nf4"
    shipped = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    assert {weight.dtype for weight in shipped.values()} == {torch.float32}
    assert all(".lora_" in name for name in shipped)


def in_four_bits(base: str, dataset: str, workspace: str, precision: str) -> None:
    """What the test above runs."""
    places = (Path(base), Path(dataset), Path(workspace))
    channel = train(*places, method="qlora", max_steps=25, precision=precision)
    sys.stdout.write("\n" + json.dumps(channel.last("finished")["loss_curve"]) + "\n")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs", rejected=lambda row: "wrong" if row % 4 else None)


@pytest.fixture
def verdicts(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "verdicts", label=lambda row: "bad" if row % 2 else "good")


def test_full_fine_tuning_gives_a_model_that_loads_without_any_code_of_ours(
    base: Path, dataset: Path, tmp_path: Path
) -> None:
    channel = train(base, dataset, tmp_path / "run", method="full", rank=None, learning_rate=3e-3, max_steps=30)
    assert losses(channel)[-1] < losses(channel)[0] / 2
    made = Path(channel.last("finished")["path"])
    model = AutoModelForCausalLM.from_pretrained(made, local_files_only=True)
    stored = load_file(base / "model.safetensors")
    moved = [name for name, weight in load_file(made / "model.safetensors").items() if not weight.equal(stored[name])]
    assert len(moved) == len(stored)
    assert model.config.vocab_size == 262
    assert {"tokenizer.json", "chat_template.jinja", "config.json"} <= {file.name for file in made.iterdir()}


@pytest.mark.parametrize("options", [{"rslora": True}, {"dora": True}, {"packing": True, "batch_size": 2}])
def test_every_option_of_lora_learns(base: Path, dataset: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    curve = losses(train(base, dataset, tmp_path / "run", max_steps=25, **options))
    assert curve[-1] < curve[0] * 0.75


def test_preferred_answers_gain_over_rejected_ones_and_rows_without_a_pair_are_counted(
    base: Path, pairs: Path, tmp_path: Path
) -> None:
    channel = train(base, pairs, tmp_path / "run", method="dpo", learning_rate=3e-3, max_steps=20)
    assert losses(channel)[0] == pytest.approx(0.6931, abs=1e-3), "the model as it begins prefers neither"
    assert losses(channel)[-1] < 0.2
    assert (channel.last("ready")["rows"], channel.last("ready")["skipped"]) == (30, 10)


def test_bad_answers_lose_and_good_ones_gain(base: Path, verdicts: Path, tmp_path: Path) -> None:
    channel = train(base, verdicts, tmp_path / "run", method="kto", learning_rate=3e-3, max_steps=20)
    assert losses(channel)[0] == pytest.approx(0.5, abs=1e-3)
    assert losses(channel)[-1] < 0.45


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_a_preference_step_is_the_same_however_it_is_cut(base: Path, pairs: Path, tmp_path: Path, method: str) -> None:
    whole = train(base, pairs, tmp_path / "whole", method=method, max_steps=3)
    again = train(base, pairs, tmp_path / "again", method=method, max_steps=3, split=4)
    assert losses(whole) == pytest.approx(losses(again), rel=1e-3)


@pytest.mark.parametrize(("method", "reason"), [("dpo", "NO_PAIRS"), ("kto", "NO_BAD_ANSWERS")])
def test_preferences_without_preferences_are_refused_with_the_mend(
    base: Path, dataset: Path, tmp_path: Path, method: str, reason: str
) -> None:
    failed = train(base, dataset, tmp_path / "run", method=method).last("failed")
    assert failed["reason"] == reason
    assert "lora" in failed["message"]


def test_an_answer_marked_bad_is_never_learned_as_one_to_give(base: Path, verdicts: Path, tmp_path: Path) -> None:
    ready = train(base, verdicts, tmp_path / "run", max_steps=1).last("ready")
    assert (ready["rows"], ready["skipped"]) == (20, 20)
    assert ready["xray"] == "alpha beta<|end|>"


def test_a_student_comes_closer_to_its_teacher(base: Path, dataset: Path, tmp_path: Path) -> None:
    teacher = tiny_base(tmp_path / "teacher", seed=7)
    options: dict[str, Any] = {
        "method": "distil-logits",
        "teacher": f"sha256:{'1' * 64}",
        "mix": 1.0,
        "max_steps": 25,
        "temperature": 1,
    }
    channel = train(base, dataset, tmp_path / "run", teacher_directory=str(teacher), **options)
    assert losses(channel)[-1] < losses(channel)[0] * 0.85


def test_a_teacher_of_another_vocabulary_is_refused_with_the_first_token_that_differs(
    base: Path, dataset: Path, tmp_path: Path
) -> None:
    teacher = tiny_base(tmp_path / "teacher", seed=7)
    text = (teacher / "tokenizer.json").read_text()
    (teacher / "tokenizer.json").write_text(text.replace('"a":', '"§":').replace("<|user|>", "<|human|>"))
    failed = train(
        base, dataset, tmp_path / "run", method="distil-logits", teacher=f"sha256:{'1' * 64}",
        teacher_directory=str(teacher),
    ).last("failed")  # fmt: skip
    assert failed["reason"] == "TEACHER_VOCABULARY"
    assert "distil-sequence" in failed["message"]
    assert "<|human|>" in failed["message"] or "<|user|>" in failed["message"]


def test_base_and_adapter_are_exported_as_one_model_that_answers_like_the_two(
    base: Path, dataset: Path, tmp_path: Path
) -> None:
    adapter = Path(train(base, dataset, tmp_path / "run", rslora=True).last("finished")["path"])
    export(Export(base=str(base), adapter=str(adapter), destination=str(tmp_path / "merged")))
    one = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    two = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    tokens = torch.arange(6, 60)[None]
    with torch.no_grad():
        assert torch.allclose(one(input_ids=tokens).logits, two(input_ids=tokens).logits, atol=1e-3)
    names = {"tokenizer.json", "chat_template.jinja", "pawl.json", "parity.json"}
    assert names <= {f.name for f in (tmp_path / "merged").iterdir()}


def in_four_bits_from(base: Path, dataset: Path, home: Path, what: str) -> "subprocess.CompletedProcess[str]":
    """In a process of its own, as the service starts it: the libraries look for bitsandbytes as they load."""
    code = f"import sys; from services.trainer.tests.test_methods import {what} as go; go(*sys.argv[1:])"
    paths = [str(each) for each in (base, dataset, home)]
    return subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, timeout=170)


def test_an_export_in_four_bits_that_is_another_model_by_then_is_refused(
    base: Path, dataset: Path, tmp_path: Path
) -> None:
    done = in_four_bits_from(base, dataset, tmp_path, "another_in_four_bits")
    assert done.returncode
    assert "is answered otherwise: token 1 is" in done.stderr


def another_in_four_bits(base: str, dataset: str, home: str) -> None:
    """What the test above runs: the weights of another run stand where those of the record stood."""
    mine = Path(train(Path(base), Path(dataset), Path(home) / "run").last("finished")["path"])
    other = Path(
        train(Path(base), Path(dataset), Path(home) / "other", seed=1, learning_rate=3e-2).last("finished")["path"]
    )
    shutil.copyfile(other / "adapter_model.safetensors", mine / "adapter_model.safetensors")
    destination = str(Path(home) / "small")
    export(Export.model_validate({"base": base, "adapter": str(mine), "destination": destination, "form": "nf4"}))


def test_an_export_in_four_bits_loads_in_plain_transformers_and_is_near_to_what_was_trained(
    dataset: Path, tmp_path: Path
) -> None:
    done = in_four_bits_from(TRAINED, dataset, tmp_path, "exported_in_four_bits")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) < 0.4
    size = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("small", "merged")]
    assert size[0] < 0.6 * size[1]
    record = json.loads((tmp_path / "small" / "parity.json").read_text())
    assert record["precision"] == "nf4"
    assert {"tokenizer.json", "chat_template.jinja", "pawl.json"} <= {f.name for f in (tmp_path / "small").iterdir()}


def exported_in_four_bits(base: str, dataset: str, home: str) -> None:
    """What the test above runs: train, export twice, and compare as anybody would."""
    place = Path(home)
    adapter = train(Path(base), Path(dataset), place / "run", max_steps=10).last("finished")["path"]
    models = []
    for name, form in (("merged", "merged"), ("small", "nf4")):
        export(
            Export.model_validate({"base": base, "adapter": adapter, "destination": str(place / name), "form": form})
        )
        models.append(AutoModelForCausalLM.from_pretrained(place / name, dtype=torch.float32).eval())
    assert models[1].is_loaded_in_4bit
    tokens = torch.arange(6, 60)[None]
    with torch.no_grad():
        said = [model(input_ids=tokens).logits.log_softmax(-1) for model in models]
    sys.stdout.write(f"\n{float((said[0] - said[1]).abs().mean())}\n")


def test_a_merged_model_that_answers_otherwise_is_refused_with_the_first_token_that_differs(
    base: Path, dataset: Path, tmp_path: Path
) -> None:
    adapter = Path(train(base, dataset, tmp_path / "run").last("finished")["path"])
    other = Path(train(base, dataset, tmp_path / "other", seed=1, learning_rate=3e-2).last("finished")["path"])
    shutil.copyfile(other / "adapter_model.safetensors", adapter / "adapter_model.safetensors")
    with pytest.raises(FailedPrecondition, match=r"token \d is \d+, and \d+ where it was trained") as refused:
        export(Export(base=str(base), adapter=str(adapter), destination=str(tmp_path / "merged")))
    assert refused.value.reason == "PARITY"


def test_the_short_way_through_a_lora_layer_gives_the_gradients_of_the_long_one(
    base: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = train(base, dataset, tmp_path / "short")
    monkeypatch.setattr("services.trainer.compute.methods.lora.fuse", lambda model: 0)
    long = train(base, dataset, tmp_path / "long")
    assert losses(short) == pytest.approx(losses(long), rel=1e-4)
    one, two = (load_file(Path(run.last("finished")["path"]) / "adapter_model.safetensors") for run in (short, long))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-2
    assert not any(torch.isnan(weight).any() for weight in one.values())
