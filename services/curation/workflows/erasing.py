"""Erasure: a tombstone first, then everything that held the subject is found, quarantined, rewritten and deleted.

A process killed at any point goes on where it was: the tombstone alone already keeps the rows out of every build, what
was touched is recorded in one transaction with the quarantine, and objects are deleted only after that.
"""

import asyncio
import shutil
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from libs.contracts.errors import InvalidInput, NotFound, PawlError
from libs.contracts.events import SubjectErased
from libs.contracts.ids import user_hash
from libs.outbox.database import Database
from libs.telemetry import get_logger
from services.curation.clients import child
from services.curation.clients.library import Library
from services.curation.domain.card import CARD, CARD_BEFORE
from services.curation.domain.croissant import CROISSANT
from services.curation.domain.split import SPLITS
from services.curation.store import audits, erasures, review, staged
from services.curation.store import datasets as store
from services.curation.store.datasets import Dataset, Suite
from services.curation.store.erasures import ASKED, DONE, LISTED, Erasure
from services.curation.store.segments import over_segments

log = get_logger(__name__)

_TELLING = ("report.json", CARD, CARD_BEFORE, CROISSANT)


def hash_of(tenant: str, user: str) -> str:
    """The hash under which segments hold a user; 64 hex digits are taken for one."""
    if not user:
        raise InvalidInput("whose data is to be erased?", field="user")
    return user_hash(tenant, user)


class Erasing:
    """Erases subjects, one at a time."""

    def __init__(self, database: Database, library: Library, work: Path) -> None:
        self._database = database
        self._library = library
        self._work = work
        self._turn = asyncio.Lock()

    async def erase(self, tenant: str, task: str, user: str, *, by: str, reason: str) -> tuple[Erasure, int]:
        """Erase a user of a task; returns the erasure and how many review items went. Repeating it is harmless."""
        if not by or not reason:
            raise InvalidInput("an erasure needs a name and a reason", field="by" if not by else "reason")
        hashed = hash_of(tenant, user)
        async with self._turn:
            async with self._database.unit() as unit:
                await erasures.ask(unit, tenant, task, hashed, by=by, reason=reason)
            found = next(each for each in await erasures.of_task(self._database, tenant, task) if each.user == hashed)
            return await self._carry_out(found)

    async def resume(self) -> None:
        """Finish what a process before this one began; a failure is told and tried again at the next start."""
        for erasure in await erasures.unfinished(self._database):
            async with self._turn:
                try:
                    await self._carry_out(erasure)
                except PawlError as error:
                    log.error("erasure is not finished", task=erasure.task, reason=str(error))

    async def _carry_out(self, erasure: Erasure) -> tuple[Erasure, int]:
        forgotten = 0
        if erasure.state == ASKED:
            directory = self._work / uuid.uuid4().hex
            try:
                erasure, forgotten = await self._list(erasure, directory)
            finally:
                await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        if erasure.state == LISTED:
            objects = self._library.objects(erasure.tenant)
            for digest in erasure.garbage:
                await objects.delete(digest)
            await self._library.forget(erasure.tenant, erasure.garbage)
            erasure = replace(erasure, state=DONE, garbage=())
            async with self._database.unit() as unit:
                await erasures.advance(unit, erasure)
        log.info("subject erased", task=erasure.task, rows=len(erasure.row_ids), versions=len(erasure.touched))
        return erasure, forgotten

    async def _list(self, erasure: Erasure, directory: Path) -> tuple[Erasure, int]:
        tenant, task = erasure.tenant, erasure.task
        versions = [each for each in await store.listed(self._database, tenant, task) if each.ledger_digest]
        known = {str(each.number): each for each in versions}
        request: dict[str, Any] = {
            "user": erasure.user,
            "known": list(erasure.row_ids),
            "versions": [
                {
                    "number": each.number,
                    "ledger": str(await self._library.file(tenant, each.ledger_digest)),
                    "suite": str(await self._library.items(tenant, each.suite_digest)),
                }
                for each in versions
            ],
            "out": str(directory / "out"),
        }

        async def find(segments: Sequence[tuple[int, str]]) -> dict[str, Any]:
            digests = [digest for _, digest in segments]
            paths = await self._library.files(tenant, digests)
            held = {digest: str(path) for digest, path in zip(digests, paths, strict=True)}
            return await child.run_compute(child.ERASE, directory, {**request, "segments": held})

        result = await over_segments(self._database, tenant, task, find)
        # Fetched copies only: the segments themselves are ingestion's to rewrite, when it hears of the erasure.
        await self._library.forget(tenant, result["segments"])
        # Of an erasure that was asked for again before it was done, too.
        garbage = {*erasure.garbage, *await audits.listed(self._database, tenant, task)}
        changed: list[tuple[Dataset, Suite | None]] = []
        touched = {int(each["number"]): each for each in erasure.touched}
        suites: dict[str, Suite] = {}
        for each in sorted(result["touched"], key=lambda one: int(one["number"])):
            dataset = known[str(each["number"])]
            now, suite = await self._rewritten(erasure, dataset, each, suites)
            garbage |= await self._garbage(dataset, each)
            changed.append((now, suite))
            before = touched.get(dataset.number, {"rows": {}, "suite_items": 0})
            touched[dataset.number] = {
                "number": dataset.number, "digest": dataset.digest,
                "rows": dict(sorted((Counter(before["rows"]) + Counter(each["rows"])).items())),
                "suite_items": before["suite_items"] + each["suite_items"],
            }  # fmt: skip
        rows = tuple(sorted({*result["rows"], *result["synthetic"]}))
        left = await self._unrecorded(tenant, task)
        async with self._database.unit() as unit:
            # A build that did not heed this erasure is none, one that did is recorded by now or done again.
            garbage |= await staged.still(unit, tenant, task, left)
            listed = replace(
                erasure, state=LISTED, row_ids=rows, touched=[touched[number] for number in sorted(touched)],
                garbage=tuple(sorted(garbage)),
            )  # fmt: skip
            for now, suite in changed:
                await store.quarantine(unit, now, f"it held rows of a subject erased by {erasure.by}")
                if suite is not None:
                    await store.add_suite(unit, tenant, task, suite, now.number)
            forgotten = await review.forget(unit, tenant, task, erasure.user, (*rows, *result["carrying"]))
            await audits.forget(unit, tenant, task)
            await erasures.advance(unit, listed)
            unit.emit(
                SubjectErased(
                    tenant=tenant, task=task, user=erasure.user, rows=len(rows), reason=erasure.reason,
                    datasets=tuple(str(each["digest"]) for each in listed.touched),
                    numbers=tuple(int(each["number"]) for each in listed.touched),
                ),
                output="erased",
                key=f"{tenant}/{task}/{erasure.user}/{erasure.asked_at}",
            )  # fmt: skip
        return listed, forgotten

    async def _unrecorded(self, tenant: str, task: str) -> set[str]:
        """Objects that builds put, or are putting, and that no version of anything holds."""
        found = await staged.listed(self._database, tenant, task)
        if not found:
            return found
        objects, trees = store.held_by(await store.of_tenant(self._database, tenant))
        return found - objects - await self._library.within(tenant, trees)

    async def _rewritten(
        self, erasure: Erasure, dataset: Dataset, found: dict[str, Any], suites: dict[str, Suite]
    ) -> tuple[Dataset, Suite | None]:
        """The version under the digests of its ledger and suite without the subject."""
        objects = self._library.objects(erasure.tenant)
        ledger = await objects.put_file(Path(found["ledger"]), kind="ledger")
        if not found["suite"]:
            return replace(dataset, ledger_digest=ledger), None
        suite = suites.get(dataset.suite_digest)
        if suite is None:
            newest = max(
                each.suite_version for each in await store.listed(self._database, dataset.tenant, dataset.task)
            )
            version = max([newest, *(each.version for each in suites.values())]) + 1
            about = {"kind": "suite", "tenant": dataset.tenant, "task": dataset.task, "version": version}
            digest = await objects.put_tree(Path(found["suite"]), kind="suite", metadata=about)
            text = await asyncio.to_thread((Path(found["suite"]) / "items.jsonl").read_text, "utf-8")
            suite = suites[dataset.suite_digest] = Suite(version, digest, len(text.splitlines()))
        now = replace(dataset, ledger_digest=ledger, suite_digest=suite.digest, suite_version=suite.version)
        return now, suite

    async def _garbage(self, dataset: Dataset, found: dict[str, Any]) -> set[str]:
        """Objects of a version that hold something of the subject."""
        objects = self._library.objects(dataset.tenant)
        garbage = {dataset.ledger_digest, dataset.report_digest}
        try:
            tree = await objects.get_manifest(dataset.digest)
            suite = await objects.get_manifest(dataset.suite_digest)
        except NotFound:
            return garbage
        held = [f"{name}.jsonl" for name in SPLITS if found["rows"].get(name)]
        garbage |= {tree.files[name].digest for name in (*held, *_TELLING) if name in tree.files}
        if found["suite"]:
            garbage |= {suite.files["items.jsonl"].digest}
        return garbage
