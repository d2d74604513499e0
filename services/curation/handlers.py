"""Segments become known, and a command becomes a dataset version: once, however often it is delivered."""

import json
import shutil
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from libs.artifacts import ObjectStore
from libs.contracts.commands import BuildDataset
from libs.contracts.envelope import Envelope
from libs.contracts.errors import FailedPrecondition, InvalidInput, Unavailable
from libs.contracts.events import DatasetBuilt, DatasetRefused, SegmentWritten
from libs.eventing.cloudevents import decode
from libs.eventing.deadletters import Letter
from libs.outbox.database import Database
from libs.runtime.children import spawn_child
from libs.telemetry import get_logger, span
from services.curation.store import datasets as store
from services.curation.store.datasets import Dataset, Suite

log = get_logger(__name__)

SEGMENTS, BUILD = "curation-segments", "curation-build"
# Named, not imported: what it needs is loaded by its own process alone.
_BUILDER = "services.curation.compute.build"


class Curator:
    """Handles what curation subscribes to. `work` holds builds under way, `cache` segments seen before."""

    def __init__(self, database: Database, objects: Callable[[str], ObjectStore], work: Path, cache: Path) -> None:
        self._database = database
        self._objects = objects
        self._work = work
        self._cache = cache

    def sweep(self) -> None:
        """Drop builds that a process before this one left half done."""
        shutil.rmtree(self._work, ignore_errors=True)

    async def learn_segment(self, envelope: Envelope[SegmentWritten]) -> None:
        """A segment exists."""
        async with self._database.unit(envelope, SEGMENTS) as unit:
            if not unit.already_handled:
                await store.learn_segment(unit, envelope.data)

    async def build(self, envelope: Envelope[BuildDataset]) -> None:
        """Build the version, or repeat what came of it; Unavailable while a segment up to its watermark is missing."""
        command = envelope.data
        with span("build dataset", parent=envelope.traceparent, task=command.task, number=command.number):
            known = await store.find(self._database, command.tenant, command.task, command.number)
            if known is not None:
                await self._conclude(envelope, known, None, repeated=True)
                return
            segments = await store.segments_to(self._database, command.tenant, command.task, command.watermark)
            if len(segments) < command.watermark:
                raise Unavailable(
                    f"{len(segments)} of {command.watermark} segments of {command.task} are known yet",
                    reason="SEGMENTS_BEHIND",
                )
            directory = self._work / uuid.uuid4().hex
            directory.mkdir(parents=True)
            try:
                dataset, suite = await self._build(command, segments, directory)
            finally:
                shutil.rmtree(directory, ignore_errors=True)
            await self._conclude(envelope, dataset, suite, repeated=False)

    async def refuse_dead(self, letter: Letter, reason: str) -> None:
        """A command that cannot be carried out is refused in public, so that its turn comes to an end."""
        try:
            envelope = decode(BuildDataset, letter.subject, letter.data, letter.headers)
        except InvalidInput as error:
            log.error("build command cannot be read", reason=str(error))
            return
        command = envelope.data
        known = await store.find(self._database, command.tenant, command.task, command.number)
        refused = known or Dataset(command.tenant, command.task, command.number, command.watermark, refused=reason)
        await self._conclude(envelope, refused, None, repeated=known is not None)

    async def _build(
        self, command: BuildDataset, segments: list[tuple[int, str]], directory: Path
    ) -> tuple[Dataset, Suite | None]:
        objects = self._objects(command.tenant)
        earlier = await store.listed(self._database, command.tenant, command.task, below=command.number)
        before = earlier[0] if earlier else None
        paths = [str(await self._fetch(objects, digest)) for _, digest in segments]
        suite_file = None
        if before is not None:
            suite_file = await objects.fetch_tree(before.suite_digest, directory / "frozen") / "items.jsonl"
        fractions = earlier[-1].fractions if earlier else None
        request = {
            "tenant": command.tenant,
            "number": command.number,
            "watermark": command.watermark,
            "spec": command.spec.model_dump(mode="json", by_alias=True),
            "segments": paths,
            # The first version's fractions stay: others would move rows from one split to another.
            "fractions": fractions,
            "suite": str(suite_file) if suite_file else None,
            "suite_version": before.suite_version if before else 0,
            "out": str(directory / "out"),
            "result": str(directory / "result.json"),
        }
        result = await _run_child(directory, request)
        lasting = fractions or command.spec.data.split.model_dump()
        base = Dataset(command.tenant, command.task, command.number, command.watermark, fractions=lasting)
        if "refused" in result:
            return replace(base, refused=result["refused"]), None
        return await self._store(objects, base, before, result, directory / "out")

    async def _store(
        self, objects: ObjectStore, base: Dataset, before: Dataset | None, result: dict[str, Any], out: Path
    ) -> tuple[Dataset, Suite | None]:
        suite: Suite | None = None
        if result["suite_is_new"] or before is None:
            about = {"tenant": base.tenant, "task": base.task, "version": result["suite_version"]}
            digest = await objects.put_tree(out / "suite", kind="suite", metadata={"kind": "suite", **about})
            suite = Suite(result["suite_version"], digest, result["suite_items"])
        suite_digest = suite.digest if suite is not None else before.suite_digest if before is not None else ""
        report_digest = await objects.put_file(out / "dataset" / "report.json", kind="report")
        metadata = {"kind": "dataset", **result["metadata"], "suite_digest": suite_digest}
        digest = await objects.put_tree(out / "dataset", kind="dataset", metadata=metadata)
        built = replace(
            base,
            digest=digest,
            report_digest=report_digest,
            suite_digest=suite_digest,
            suite_version=result["suite_version"],
            splits=result["splits"],
            removed=result["removed"],
            categories=result["categories"],
        )
        return built, suite

    async def _conclude(
        self, envelope: Envelope[BuildDataset], dataset: Dataset, suite: Suite | None, *, repeated: bool
    ) -> None:
        async with self._database.unit(envelope, BUILD) as unit:
            if unit.already_handled:
                return
            if not repeated:
                await store.keep(unit, dataset, suite)
            unit.emit(_fact(dataset), output="dataset", turn_id=envelope.data.turn_id)
        log.info(
            "dataset refused" if dataset.refused else "dataset built", task=dataset.task, number=dataset.number,
            reason=dataset.refused, splits=dataset.splits, removed=dataset.removed, repeated=repeated,
        )  # fmt: skip

    async def _fetch(self, objects: ObjectStore, digest: str) -> Path:
        path = self._cache / f"{digest.removeprefix('sha256:')}.parquet"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            await objects.fetch(digest, path)
        return path


async def _run_child(directory: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Build in a process of its own, so that its memory and its time are not the service's."""
    request_file = directory / "request.json"
    request_file.write_text(json.dumps(request))
    child = await spawn_child([sys.executable, "-m", _BUILDER, str(request_file)])
    try:
        status = await child.wait()
    finally:
        # A build whose command was handed over must not go on beside its successor.
        await child.stop(0.1)
        child.close()
    if status < 0:
        raise Unavailable(f"the build was killed by signal {-status}", reason="BUILD_KILLED")
    result = _result(Path(request["result"])) if status == 0 else None
    if result is None:
        raise FailedPrecondition(f"the build broke with status {status}; its log says why", reason="BUILD_BROKE")
    if "error" in result:
        raise FailedPrecondition(result["error"], reason=result["reason"])
    return result


def _result(path: Path) -> dict[str, Any] | None:
    return dict(json.loads(path.read_text())) if path.exists() else None


def _fact(dataset: Dataset) -> DatasetBuilt | DatasetRefused:
    if dataset.refused is not None:
        return DatasetRefused(tenant=dataset.tenant, task=dataset.task, number=dataset.number, reason=dataset.refused)
    return DatasetBuilt(
        tenant=dataset.tenant,
        task=dataset.task,
        number=dataset.number,
        digest=dataset.digest,
        report_digest=dataset.report_digest,
        suite_digest=dataset.suite_digest,
        suite_version=dataset.suite_version,
        splits=dataset.splits,
        removed=dataset.removed,
        categories=dataset.categories,
    )
