"""Trees on local disk: a directory that is exactly what its manifest says, put in place in one step."""

from pathlib import Path

from libs.artifacts.files import digest_file, partial_name, remove, sweep_partials, sync_directory, write_file
from libs.artifacts.manifest import Manifest, manifest_of
from libs.contracts.errors import DataLoss, InvalidInput, PawlError
from libs.contracts.ids import digest_bytes


def manifest_file(destination: Path) -> Path:
    """Where the manifest of a fetched tree is kept: beside it, since inside it would be one more file of the tree."""
    return destination.with_name(f".{destination.name}.manifest.json")


def verify_tree(destination: Path, digest: str) -> Manifest | None:
    """The manifest of a local tree if every byte under it is what `digest` names, else None; needs no network."""
    try:
        data = manifest_file(destination).read_bytes()
    except OSError:
        return None
    if digest_bytes(data) != digest:
        return None
    try:
        manifest = Manifest.from_json(data)
        found = manifest_of(destination, kind=manifest.kind, metadata=manifest.metadata)
    except (DataLoss, InvalidInput):
        return None
    return manifest if found.files == dict(manifest.files) else None


def install_tree(partial: Path, destination: Path, manifest: Manifest) -> None:
    """Put a complete tree in place of whatever is there. After a crash in between `verify_tree` says no, never yes."""
    sync_tree(partial)
    replaced = partial_name(destination)
    if destination.exists() or destination.is_symlink():
        destination.rename(replaced)
    try:
        partial.rename(destination)
    except OSError:
        if replaced.exists() and not destination.exists():
            replaced.rename(destination)
        raise
    write_file(manifest_file(destination), manifest.to_json())
    sync_directory(destination.parent)
    remove(replaced)


def sync_tree(directory: Path) -> None:
    """Make the names inside a tree durable; its files are synced as they are written."""
    for path in directory.rglob("*"):
        if path.is_dir():
            sync_directory(path)
    sync_directory(directory)


def reuse(destination: Path, path: str, digest: str) -> Path | None:
    """A file of an older tree at the same place that still holds the content asked for."""
    old = destination / path
    try:
        return old if not old.is_symlink() and old.is_file() and digest_file(old)[0] == digest else None
    except PawlError:
        return None


__all__ = ["install_tree", "manifest_file", "partial_name", "reuse", "sweep_partials", "verify_tree"]
