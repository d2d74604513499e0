"""Looking without changing: a task's audit, a row's history, what differs between versions, proposed categories."""

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.contracts.errors import Conflict, FailedPrecondition, InvalidInput, NotFound
from libs.contracts.ids import digest_bytes
from libs.outbox.database import Database
from libs.telemetry import get_logger, span
from services.curation.clients import child
from services.curation.clients.library import Library
from services.curation.domain.card import CARD, CARD_BEFORE
from services.curation.domain.croissant import CROISSANT
from services.curation.domain.split import SPLITS
from services.curation.store import audits, erasures, policy, review
from services.curation.store import datasets as store
from services.curation.store.datasets import Dataset
from services.curation.store.segments import over_segments

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Audit:
    """An audit: its two documents and their digests."""

    as_json: str
    page: str
    json_digest: str
    page_digest: str


class Looking:
    """Answers questions about rows and versions; what takes long runs in a child under `work`."""

    def __init__(self, database: Database, library: Library, work: Path) -> None:
        self._database = database
        self._library = library
        self._work = work

    async def audit(self, tenant: str, task: str) -> Audit:
        """The audit of every row known of a task. NotFound when the task or its rows are."""
        erased = await erasures.of_task(self._database, tenant, task)
        async with self._directory() as directory:
            more: dict[str, Any] = {"out": str(directory / "out")}
            applied = await policy.applied(self._database, tenant, task)
            try:
                more["base"] = await self._library.base(tenant, applied.base_digest)
            except NotFound as error:
                log.warning("an audit counts no tokens", task=task, reason=str(error))
            with span("audit", task=task):
                result = await self._of_rows(tenant, task, child.AUDIT, directory, more)
            objects = self._library.objects(tenant)
            paths = Path(result["json"]), Path(result["html"])
            texts = [await asyncio.to_thread(path.read_text, "utf-8") for path in paths]
            # Known before they are there: whatever a kill leaves behind, an erasure finds.
            async with self._database.unit() as unit:
                await audits.add(unit, tenant, task, [digest_bytes(text.encode()) for text in texts])
            digests = [await objects.put_file(path, kind="audit") for path in paths]
            if erased != await erasures.of_task(self._database, tenant, task):
                for digest in digests:
                    await objects.delete(digest)
                raise Conflict("a subject was erased meanwhile: ask again", reason="ERASED_MEANWHILE")
            return Audit(texts[0], texts[1], digests[0], digests[1])

    async def categories(self, tenant: str, task: str, count: int) -> dict[str, Any]:
        """Categories proposed by clustering every row known of a task."""
        if count == 1 or count > 100:
            raise InvalidInput(f"{count} categories: 2 to 100, or 0 to let the rows decide", field="count")
        async with self._directory() as directory:
            return await self._of_rows(tenant, task, child.CATEGORIES, directory, {"count": count})

    async def history(self, tenant: str, task: str, row_id: str, number: int) -> tuple[int, list[dict[str, Any]]]:
        """Number of the version, and everything its ledger says of a row. NotFound when it never came in."""
        # Not at the start of the process: columnar reading is needed here alone.
        from services.curation.compute import ledger_file

        dataset = await store.get(self._database, tenant, task, number)
        path = await self._library.file(tenant, _ledger(dataset))
        return dataset.number, await asyncio.to_thread(ledger_file.history, path, row_id)

    async def compare(self, tenant: str, task: str, before: int, after: int) -> dict[str, Any]:
        """What changed from one version to another."""
        async with self._directory() as directory:
            sides = {}
            for name, number in (("before", before), ("after", after)):
                dataset = await store.get(self._database, tenant, task, number)
                if dataset.quarantined:
                    raise FailedPrecondition(f"dataset {dataset.number} is quarantined: {dataset.quarantined}")
                tree = await self._library.objects(tenant).fetch_tree(dataset.digest, directory / name)
                ledger = await self._library.file(tenant, _ledger(dataset))
                sides[name] = {"ledger": str(ledger), **{split: str(tree / f"{split}.jsonl") for split in SPLITS}}
            return await child.run_compute(child.COMPARE, directory / "run", sides)

    async def document(self, tenant: str, task: str, number: int) -> tuple[str, str]:
        """Card and Croissant document of a version."""
        dataset = await store.get(self._database, tenant, task, number)
        objects = self._library.objects(tenant)
        manifest = await objects.get_manifest(dataset.digest)
        wanted = (CARD if CARD in manifest.files else CARD_BEFORE, CROISSANT)
        missing = next((name for name in wanted if name not in manifest.files), None)
        if missing is not None:
            raise NotFound(f"dataset {dataset.number} was built without {missing}", field="number")
        card, document = [(await objects.get_bytes(manifest.files[name].digest)).decode() for name in wanted]
        return card, document

    async def _of_rows(
        self, tenant: str, task: str, module: str, directory: Path, more: dict[str, Any]
    ) -> dict[str, Any]:
        """What a child makes of every row known of a task."""

        async def run(segments: Sequence[tuple[int, str]]) -> dict[str, Any]:
            request = await self._rows(tenant, task, segments)
            return await child.run_compute(module, directory, {**request, **more})

        return await over_segments(self._database, tenant, task, run)

    async def _rows(self, tenant: str, task: str, segments: Sequence[tuple[int, str]]) -> dict[str, Any]:
        applied = await policy.applied(self._database, tenant, task)
        if not segments:
            raise NotFound(f"task {task!r} has no rows yet; `pawl import` brings some", field="task")
        gone = await erasures.of_task(self._database, tenant, task)
        return {
            "tenant": tenant,
            "secret": await self._library.secret(tenant),
            "spec": applied.spec.model_dump(mode="json", by_alias=True),
            "segments": await self._library.segments(tenant, segments),
            "decisions": await review.decisions(self._database, tenant, task),
            "undone": [each.rule for each in await policy.overrides(self._database, tenant, task) if each.undone],
            "erased": [each.user for each in gone],
            "erased_rows": sorted({row_id for each in gone for row_id in each.row_ids}),
        }

    @asynccontextmanager
    async def _directory(self) -> AsyncIterator[Path]:
        directory = self._work / uuid.uuid4().hex
        await asyncio.to_thread(lambda: directory.mkdir(parents=True))
        try:
            yield directory
        finally:
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


def _ledger(dataset: Dataset) -> str:
    if not dataset.ledger_digest:
        raise NotFound(f"dataset {dataset.number} was built without a ledger", field="number")
    return dataset.ledger_digest
