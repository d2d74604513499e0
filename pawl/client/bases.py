"""Finding the base model that a task names: a directory beside the task file, or a model of the Hugging Face hub."""

from pathlib import Path

from libs.contracts.errors import InvalidInput, NotFound

NEEDED = ("config.json", "tokenizer.json")
PATTERNS = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model", "*.txt")
"""Never pickles, never code."""


def find_base(base: str, beside: Path) -> Path:
    """The directory of the base; NotFound names what was looked for, InvalidInput what the directory lacks."""
    directory = (beside / base).resolve()
    if directory.is_dir():
        return _checked(directory, base)
    if base.startswith((".", "/")) or base.count("/") != 1:
        raise NotFound(
            f"base {base!r}: no such directory ({directory}), and not a Hugging Face id of the form owner/name",
            field="base",
        )
    return _checked(_download(base), base)


def _checked(directory: Path, base: str) -> Path:
    missing = [name for name in NEEDED if not (directory / name).is_file()]
    if missing:
        raise InvalidInput(f"base {base!r}: {directory} lacks {missing[0]}", field="base")
    if not any(directory.glob("*.safetensors")):
        raise InvalidInput(
            f"base {base!r}: {directory} has no *.safetensors weights; other formats are not loaded", field="base"
        )
    unsafe = [path.name for path in directory.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl", ".py")]
    if unsafe:
        raise InvalidInput(f"base {base!r}: {directory} holds {unsafe[0]}; pickles and code are refused", field="base")
    return directory


def _download(base: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ModuleNotFoundError as error:
        raise NotFound(
            f"base {base!r}: no such directory; for hub models install huggingface_hub", field="base"
        ) from error
    try:
        return Path(snapshot_download(base, allow_patterns=list(PATTERNS)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise NotFound(
            f"base {base!r}: neither a directory beside the task file nor to be had from the hub: {reason}",
            field="base",
        ) from error
