"""Directories of runs and what is fetched into them; the newest checkpoint that is whole, wherever it lies."""

import asyncio
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.artifacts import ObjectStore
from libs.artifacts.trees import manifest_file
from libs.contracts.commands import TrainModel
from libs.contracts.errors import DataLoss, NotFound, Permanent
from libs.contracts.task.recipe import DistilLogitsRecipe
from libs.telemetry import get_logger
from services.trainer.domain.protocol import CHECKPOINT_MANIFEST, CHECKPOINT_STATE
from services.trainer.domain.runs import Attempt

log = get_logger(__name__)

_BASES_KEPT = 3
_CHECKPOINTS_KEPT = 2
_TOKENS_KEPT = 20


@dataclass(frozen=True, slots=True)
class Inputs:
    """Directories with what a run needs."""

    base: Path
    dataset: Path
    continue_from: Path | None
    teacher: Path | None
    replay: Path | None
    cache: Path


class Workspace:
    """`<root>/runs/<run id>` for each run and `<root>/objects/<digest>` for what was fetched.

    Args:
        root: State directory of the service.
        objects: Object storage.
    """

    def __init__(self, root: Path, objects: ObjectStore) -> None:
        self._root = root
        self._objects = objects

    def directory(self, run_id: str) -> Path:
        """The run's own directory; the id is hashed, since it comes from outside."""
        readable = "".join(letter for letter in run_id if letter.isalnum() or letter == "-")[:40]
        return self._root / "runs" / f"{readable}-{hashlib.sha256(run_id.encode()).hexdigest()[:12]}"

    async def fetch(self, command: TrainModel) -> Inputs:
        """Bring base, dataset and adapter here, verified.

        Raises NotFound or DataLoss with reason BASE_MISSING, DATASET_MISSING or ADAPTER_MISSING; Transient when
        object storage is away.
        """
        await asyncio.to_thread(self.directory(command.run_id).mkdir, parents=True, exist_ok=True)
        objects = self._objects.for_tenant(command.tenant)
        base = await self._tree(objects, command.base_digest, "base model", "BASE_MISSING")
        dataset = await self._tree(objects, command.dataset_digest, "dataset version", "DATASET_MISSING")
        adapter = None
        if command.continue_from:
            adapter = await self._tree(objects, command.continue_from, "adapter to continue from", "ADAPTER_MISSING")
        teacher = None
        if isinstance(command.spec.recipe, DistilLogitsRecipe):
            teacher = await self._tree(objects, command.spec.recipe.teacher, "teacher", "TEACHER_MISSING")
        replay = None
        if command.spec.recipe.replay is not None:
            replay = await self._tree(
                objects, command.spec.recipe.replay.dataset, "dataset to replay", "REPLAY_MISSING"
            )  # fmt: skip
        return Inputs(base, dataset, adapter, teacher, replay, self.tokens)

    @property
    def tokens(self) -> Path:
        """Tokenised rows by digest, kept between runs."""
        return self._root / "tokens"

    async def tree(self, tenant: str, digest: str, what: str) -> Path:
        """A tree of any kind, verified; NotFound or DataLoss name it."""
        return await self._tree(self._objects.for_tenant(tenant), digest, what, "OBJECT_MISSING")

    async def upload(self, tenant: str, path: Path, *, kind: str, about: dict[str, object]) -> str:
        """Upload a directory and return its digest."""
        return await self._objects.for_tenant(tenant).put_tree(path, kind=kind, metadata=about)

    async def read(self, tenant: str, digest: str) -> dict[str, Any]:
        """A JSON object by digest."""
        held: dict[str, Any] = json.loads(await self._objects.for_tenant(tenant).get_bytes(digest))
        return held

    async def share(self, tenant: str, value: object, *, kind: str) -> str:
        """Upload JSON and return its digest."""
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return await self._objects.for_tenant(tenant).put_bytes(text.encode(), kind=kind)

    async def newest_checkpoint(self, command: TrainModel, committed: list[tuple[int, str]]) -> Path | None:
        """The newest checkpoint that verifies: on this disk, else from object storage (`committed`: newest first).

        A half-written or damaged one is passed over, never used.
        """
        checkpoints = self.directory(command.run_id) / "checkpoints"
        local = await asyncio.to_thread(newest_verified, checkpoints)
        for step, digest in committed:
            if local is not None and local[0] >= step:
                break
            fetched = checkpoints / f"fetched-{step:08d}"
            try:
                await self._objects.for_tenant(command.tenant).fetch_tree(digest, fetched)
            except (NotFound, DataLoss) as error:
                log.warning("committed checkpoint unusable", run_id=command.run_id, step=step, reason=str(error))
                continue
            if await asyncio.to_thread(verified_step, fetched) == step:
                return fetched
        return local[1] if local is not None else None

    async def upload_checkpoint(self, attempt: Attempt, step: int, path: Path) -> str:
        """Upload a checkpoint and return its digest."""
        about = {"run_id": attempt.run_id, "step": step}
        return await self._objects.for_tenant(attempt.tenant).put_tree(path, kind="checkpoint", metadata=about)

    async def upload_adapter(self, attempt: Attempt, path: Path) -> str:
        """Upload an adapter and return its digest: the digest of the model version."""
        told = json.loads(await asyncio.to_thread((path / "pawl.json").read_text))
        kind = "base" if told.get("method") == "full" else "adapter"
        return await self._objects.for_tenant(attempt.tenant).put_tree(path, kind=kind, metadata=told)

    async def upload_manifest(self, attempt: Attempt, manifest: dict[str, object]) -> str:
        """Upload a run manifest as canonical JSON and return its digest."""
        text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return await self._objects.for_tenant(attempt.tenant).put_bytes(text.encode(), kind="run-manifest")

    async def drop_older_checkpoints(self, run_id: str, step: int) -> None:
        """Delete local checkpoints well before `step`, which is committed."""
        await asyncio.to_thread(_drop_older, self.directory(run_id) / "checkpoints", step)

    async def clear(self, command: TrainModel) -> None:
        """Delete what an ended run left, and bases not used for long."""
        await asyncio.to_thread(self._clear, command)

    async def _tree(self, objects: ObjectStore, digest: str, what: str, reason: str) -> Path:
        destination = self._root / "objects" / digest.removeprefix("sha256:")
        try:
            return await objects.fetch_tree(digest, destination)
        except NotFound as error:
            raise NotFound(f"the {what} {digest} is not in object storage", reason=reason) from error
        except Permanent as error:
            raise DataLoss(f"the {what} {digest} is damaged: {error}", reason=reason) from error

    def _clear(self, command: TrainModel) -> None:
        shutil.rmtree(self.directory(command.run_id), ignore_errors=True)
        _keep_newest(self.tokens, _TOKENS_KEPT)
        objects = self._root / "objects"
        for digest in (command.dataset_digest, command.continue_from):
            if digest:
                _remove_tree(objects / digest.removeprefix("sha256:"))
        if not objects.is_dir():
            return
        used = objects / command.base_digest.removeprefix("sha256:")
        if used.is_dir():
            os.utime(used)
        bases = sorted((d for d in objects.iterdir() if d.is_dir()), key=lambda d: d.stat().st_mtime, reverse=True)
        for old in bases[_BASES_KEPT:]:
            _remove_tree(old)


def newest_verified(checkpoints: Path) -> tuple[int, Path] | None:
    """Step and directory of the newest whole checkpoint under `checkpoints`."""
    if not checkpoints.is_dir():
        return None
    found = [(step, path) for path in checkpoints.iterdir() if (step := claimed_step(path)) is not None]
    for step, path in sorted(found, reverse=True):
        if verified_step(path) == step:
            return step, path
        log.warning("checkpoint is not whole, passed over", path=str(path))
    return None


def claimed_step(path: Path) -> int | None:
    """The step a directory's name says it holds; None for anything that is not a finished checkpoint."""
    kind, _, number = path.name.partition("-")
    return int(number) if kind in ("step", "fetched") and number.isdigit() and path.is_dir() else None


def verified_step(path: Path) -> int | None:
    """The step of a checkpoint whose every file matches its hash; None when anything is missing or differs."""
    try:
        hashes = json.loads((path / CHECKPOINT_MANIFEST).read_text())["files"]
        for name, expected in hashes.items():
            with (path / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                    return None
        return int(json.loads((path / CHECKPOINT_STATE).read_text())["step"]) if CHECKPOINT_STATE in hashes else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _drop_older(checkpoints: Path, committed: int) -> None:
    steps = sorted({step for path in checkpoints.iterdir() if (step := claimed_step(path)) is not None}, reverse=True)
    for path in list(checkpoints.iterdir()):
        step = claimed_step(path)
        if step is not None and step < committed and step not in steps[:_CHECKPOINTS_KEPT]:
            shutil.rmtree(path, ignore_errors=True)


def _keep_newest(directory: Path, count: int) -> None:
    if not directory.is_dir():
        return
    # What a process is still writing has a name with a dot before it.
    held = [path for path in directory.iterdir() if not path.name.startswith(".")]
    for old in sorted(held, key=lambda path: path.stat().st_mtime, reverse=True)[count:]:
        shutil.rmtree(old, ignore_errors=True)


def _remove_tree(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    manifest_file(path).unlink(missing_ok=True)
