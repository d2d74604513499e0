"""A tree of files as one immutable value: canonical JSON whose digest names every byte in it."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from libs.artifacts.files import digest_file, file_errors
from libs.contracts.errors import DataLoss, InvalidInput
from libs.contracts.ids import Digest, digest_bytes

SCHEMA = "pawl.manifest/1"
_MAX_PATH = 512


@dataclass(frozen=True, slots=True)
class Limits:
    """What a tree may hold: number of files, bytes of each and of all, bytes of the manifest itself."""

    files: int = 20_000
    file_bytes: int = 64 * 1024**3
    total_bytes: int = 512 * 1024**3
    manifest_bytes: int = 16 * 1024**2


@dataclass(frozen=True, slots=True)
class FileRef:
    """One file of a tree: its content's digest and its size in bytes."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a tree is: its kind (`adapter`, `base`, `dataset`), its files by relative path, and JSON metadata."""

    kind: str
    files: Mapping[str, FileRef]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Canonical JSON (sorted keys, no spaces, UTF-8): equal manifests are equal bytes. Raises InvalidInput."""
        body = {
            "schema": SCHEMA,
            "kind": self.kind,
            "files": {path: {"digest": ref.digest, "size": ref.size} for path, ref in self.files.items()},
            "metadata": dict(self.metadata),
        }
        try:
            text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
            return text.encode()
        except (TypeError, ValueError) as failure:
            raise InvalidInput(f"is not JSON: {failure}", field="metadata") from failure

    @property
    def digest(self) -> str:
        """The digest that names the tree."""
        return digest_bytes(self.to_json())

    @property
    def size(self) -> int:
        """Sum of the files' sizes, in bytes."""
        return sum(ref.size for ref in self.files.values())

    def check(self, limits: Limits) -> "Manifest":
        """Return itself if paths stay inside the tree and limits hold; InvalidInput, naming the file, if not."""
        if len(self.files) > limits.files:
            raise InvalidInput(f"has {len(self.files)} files, more than {limits.files}", field="files")
        for path, ref in self.files.items():
            check_path(path)
            if not 0 <= ref.size <= limits.file_bytes:
                raise InvalidInput(f"{path!r} has {ref.size} bytes, more than {limits.file_bytes}", field="files")
            for parent in PurePosixPath(path).parents:
                if str(parent) in self.files:
                    raise InvalidInput(f"{str(parent)!r} is both a file and a directory", field="files")
        if self.size > limits.total_bytes:
            raise InvalidInput(f"holds {self.size} bytes, more than {limits.total_bytes}", field="files")
        return self

    @classmethod
    def from_json(cls, data: bytes, limits: Limits | None = None) -> "Manifest":
        """Read a manifest and check it. Raises DataLoss when it is no manifest, InvalidInput when it breaks a limit."""
        try:
            read = _Body.model_validate_json(data)
        except ValidationError as failure:
            first = failure.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise DataLoss(
                f"is not a manifest: {first['msg']}", reason="BAD_MANIFEST", field=place or None
            ) from failure
        files = {path: FileRef(ref.digest, ref.size) for path, ref in read.files.items()}
        return cls(read.kind, MappingProxyType(files), MappingProxyType(read.metadata)).check(limits or Limits())


def check_path(path: str) -> PurePosixPath:
    """Return a path that stays inside the tree on any system; InvalidInput on any other."""
    parts = path.split("/")
    printable = path.isprintable() and "\\" not in path and ":" not in parts[0]
    if not printable or not 0 < len(path) <= _MAX_PATH or any(part in ("", ".", "..") for part in parts):
        raise InvalidInput(
            f"{path[:_MAX_PATH]!r} is not a path inside the tree", reason="PATH_TRAVERSAL", field="files"
        )
    return PurePosixPath(path)


def manifest_of(
    directory: Path,
    *,
    kind: str = "tree",
    metadata: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
    follow_symlinks: bool = False,
) -> Manifest:
    """Read a directory into its manifest without uploading anything; empty directories do not count.

    Symbolic links are refused unless `follow_symlinks` (a Hugging Face snapshot is made of them). Raises InvalidInput
    naming the file on links, special files, broken limits and what cannot be read.
    """
    held = limits or Limits()
    files: dict[str, FileRef] = {}
    for path in _walk(directory, follow_symlinks=follow_symlinks):
        if len(files) >= held.files:
            raise InvalidInput(f"{directory} has more than {held.files} files", field="directory")
        files[check_path(path.relative_to(directory).as_posix()).as_posix()] = FileRef(*digest_file(path))
    return Manifest(kind, files, dict(metadata or {})).check(held)


def manifest_digest(
    directory: Path, *, kind: str = "tree", metadata: Mapping[str, Any] | None = None, follow_symlinks: bool = False
) -> str:
    """The digest `put_tree` would return for the directory."""
    return manifest_of(directory, kind=kind, metadata=metadata, follow_symlinks=follow_symlinks).digest


def _walk(directory: Path, *, follow_symlinks: bool) -> Iterator[Path]:
    if not directory.is_dir():
        raise InvalidInput(f"{directory} is not a directory", field="directory")
    with file_errors(directory):
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    for entry in entries:
        path = Path(entry.path)
        if entry.is_symlink() and not (follow_symlinks and path.is_file()):
            raise InvalidInput(f"{path} is a symbolic link", field="directory")
        if entry.is_dir():
            yield from _walk(path, follow_symlinks=follow_symlinks)
        elif path.is_file():
            yield path
        else:
            raise InvalidInput(f"{path} is not a regular file", field="directory")


class _Ref(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    digest: Digest
    size: int = Field(ge=0)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    schema_: str = Field(alias="schema", pattern="^pawl[.]manifest/1$")
    kind: str
    files: dict[str, _Ref]
    metadata: dict[str, Any]
