"""Which checkpoint a run goes on from."""

import hashlib
import json
from pathlib import Path

from services.trainer.clients.workspace import newest_verified, verified_step


def checkpoint(root: Path, step: int) -> Path:
    path = root / f"step-{step:08d}"
    path.mkdir(parents=True)
    files = {"state.json": json.dumps({"step": step}).encode(), "adapter.safetensors": bytes(step)}
    for name, data in files.items():
        (path / name).write_bytes(data)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    (path / "manifest.json").write_text(json.dumps({"files": hashes}))
    return path


def test_the_newest_whole_checkpoint_is_chosen(tmp_path: Path) -> None:
    for step in (20, 40, 100):
        checkpoint(tmp_path, step)
    assert newest_verified(tmp_path) == (100, tmp_path / "step-00000100")


def test_a_half_written_checkpoint_is_passed_over(tmp_path: Path) -> None:
    checkpoint(tmp_path, 20)
    (checkpoint(tmp_path, 40) / "manifest.json").unlink()
    (checkpoint(tmp_path, 60) / "adapter.safetensors").write_bytes(b"cut")
    (checkpoint(tmp_path, 80) / "adapter.safetensors").unlink()
    (checkpoint(tmp_path, 90) / "manifest.json").write_text("{")
    checkpoint(tmp_path / "elsewhere", 100).rename(tmp_path / ".writing-step-00000100-7")
    (tmp_path / "step-00000200").mkdir()
    assert newest_verified(tmp_path) == (20, tmp_path / "step-00000020")


def test_a_checkpoint_that_says_another_step_than_its_name_is_not_used(tmp_path: Path) -> None:
    checkpoint(tmp_path, 40).rename(tmp_path / "step-00000900")
    assert verified_step(tmp_path / "step-00000900") == 40
    assert newest_verified(tmp_path) is None


def test_without_any_checkpoint_there_is_none(tmp_path: Path) -> None:
    assert newest_verified(tmp_path / "nowhere") is None
