from pathlib import Path

import pytest

from libs.contracts.errors import InvalidInput, NotFound
from pawl.client.bases import find_base


def make(directory: Path, *names: str) -> Path:
    directory.mkdir()
    for name in names:
        (directory / name).write_text("{}")
    return directory


def test_a_directory_beside_the_task_file_is_the_base(tmp_path: Path) -> None:
    base = make(tmp_path / "base", "config.json", "tokenizer.json", "model.safetensors")
    assert find_base("./base", tmp_path) == base


@pytest.mark.parametrize("base", ["./nowhere", "nowhere", "/no/such/place"])
def test_a_base_that_does_not_exist_is_named(tmp_path: Path, base: str) -> None:
    with pytest.raises(NotFound, match=base) as caught:
        find_base(base, tmp_path)
    assert caught.value.field == "base"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("config.json", "model.safetensors"), "lacks tokenizer.json"),
        (("config.json", "tokenizer.json"), "no .*safetensors"),
        (
            ("config.json", "tokenizer.json", "model.safetensors", "model.bin"),
            "model.bin; pickles and code are refused",
        ),
        (("config.json", "tokenizer.json", "model.safetensors", "modeling.py"), "modeling.py"),
    ],
)
def test_a_directory_that_is_no_safe_base_says_why(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    make(tmp_path / "base", *names)
    with pytest.raises(InvalidInput, match=message):
        find_base("base", tmp_path)
