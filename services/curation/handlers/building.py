"""One build: everything that decides a version is gathered, handed to a child, and what it wrote becomes objects."""

import asyncio
import shutil
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from libs.artifacts.files import digest_file
from libs.contracts.commands import BuildDataset
from libs.contracts.errors import FailedPrecondition, NotFound, Unavailable
from libs.contracts.task import JudgeSpec
from libs.outbox.database import Database
from services.curation.clients import child
from services.curation.clients.endpoint import Chat, judge
from services.curation.clients.library import Library
from services.curation.domain.foreign import foreign_suites
from services.curation.store import datasets as store
from services.curation.store import erasures, policy, review
from services.curation.store import staged as staging
from services.curation.store.datasets import Dataset, Suite
from services.curation.store.erasures import Erasure, Mark

_MOST_JUDGED = 64
"""Scores recorded at a time: a build that is killed loses no more than these."""


@dataclass(frozen=True, slots=True)
class Built:
    """What came of a build: the version (or its refusal), its suite where that is new, and questions for review.

    `heeded` marks the erasures that it knew of; None where no rows were read. `staged` are the objects it put.
    """

    dataset: Dataset
    suite: Suite | None = None
    questions: list[dict[str, Any]] = field(default_factory=list)
    heeded: Sequence[Mark] | None = None
    staged: Collection[str] = ()


class Builder:
    """Builds dataset versions under `work`, which holds nothing else."""

    def __init__(self, database: Database, library: Library, chat: Chat, work: Path) -> None:
        self._database = database
        self._library = library
        self._chat = chat
        self._work = work

    def sweep(self) -> None:
        """Drop builds that a process before this one left half done."""
        shutil.rmtree(self._work, ignore_errors=True)

    async def discard(self, tenant: str, digests: Sequence[str]) -> None:
        """Delete segments that others stand in for, those aside that are still read somewhere."""
        gone = sorted(set(digests) - await store.read_segments(self._database, tenant, digests))
        for digest in gone:
            await self._library.objects(tenant).delete(digest)
        await self._library.forget(tenant, gone)

    async def build(self, command: BuildDataset, segments: Sequence[tuple[int, str]]) -> Built:
        """Build the version of a command from these segments."""
        directory = self._work / uuid.uuid4().hex
        directory.mkdir(parents=True)
        try:
            return await self._build(command, segments, directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    async def _build(self, command: BuildDataset, segments: Sequence[tuple[int, str]], directory: Path) -> Built:
        tenant, task = command.tenant, command.task
        # Before anything else is read: an erasure that comes later is not heeded, whatever of it was seen.
        gone = await erasures.of_task(self._database, tenant, task)
        heeded = [each.mark for each in gone]
        await self._clear(tenant, task)
        earlier = await store.listed(self._database, tenant, task, below=command.number)
        before = earlier[0] if earlier else None
        request = {
            **await self._decided(command, gone),
            "number": command.number,
            "watermark": command.watermark,
            "segments": await self._library.segments(tenant, segments),
            # The first version's fractions stay: others would move rows from one split to another.
            "fractions": earlier[-1].fractions if earlier else None,
            "suite": str(await self._library.items(tenant, before.suite_digest)) if before else None,
            "suite_version": before.suite_version if before else 0,
            "out": str(directory / "out"),
        }
        if before is not None and before.ledger_digest:
            request["ledger"] = str(await self._library.file(tenant, before.ledger_digest))
        result = await child.run_compute(child.BUILD, directory, request)
        while result.get("unjudged"):
            request["verdicts"] = await self._judged(command, result["unjudged"])
            result = await child.run_compute(child.BUILD, directory, request)
        lasting = request["fractions"] or command.spec.data.split.model_dump()
        base = Dataset(tenant, task, command.number, command.watermark, fractions=lasting)
        if "refused" in result:
            return Built(replace(base, refused=result["refused"]), heeded=heeded)
        staged = await asyncio.to_thread(_digests, directory / "out")
        async with self._database.unit() as unit:
            for each in await erasures.heeded(unit, tenant, task, heeded):
                if not staged.isdisjoint(each.garbage):
                    raise Unavailable("what this build puts is being deleted", reason="ERASING")
            await staging.add(unit, tenant, task, staged)
        return replace(await self._keep(base, before, result, directory / "out"), heeded=heeded, staged=staged)

    async def _clear(self, tenant: str, task: str) -> None:
        """Delete what builds left that were killed, or done while somebody was erased: nothing else knows of it."""
        left = await staging.listed(self._database, tenant, task)
        if not left:
            return
        objects, trees = store.held_by(await store.of_tenant(self._database, tenant))
        for digest in sorted(left - objects - await self._library.within(tenant, trees)):
            await self._library.objects(tenant).delete(digest)
        async with self._database.unit() as unit:
            await staging.forget(unit, tenant, task, left)

    async def _decided(self, command: BuildDataset, gone: Sequence[Erasure]) -> dict[str, Any]:
        """Everything beside segments and spec that a version depends on."""
        tenant, task, database = command.tenant, command.task, self._database
        curation = command.spec.data.curation
        suites = {each.digest for each in foreign_suites(command.spec) if each.digest}
        return {
            "tenant": tenant,
            "secret": await self._library.secret(tenant),
            "spec": command.spec.model_dump(mode="json", by_alias=True),
            "decisions": await review.decisions(database, tenant, task),
            "synthetic": await review.approved_synthetic(database, tenant, task),
            "undone": [each.rule for each in await policy.overrides(database, tenant, task) if each.undone],
            "erased": [each.user for each in gone],
            "erased_rows": sorted({row_id for each in gone for row_id in each.row_ids}),
            "verdicts": await policy.verdicts(database, tenant, task) if curation.judge is not None else {},
            "suites": {digest: str(await self._suite(tenant, digest)) for digest in sorted(suites)},
        }

    async def _suite(self, tenant: str, digest: str) -> Path:
        """The items of another suite; FailedPrecondition says which to name where an erasure rewrote it."""
        try:
            return await self._library.items(tenant, digest)
        except NotFound:
            now = await store.suite_now(self._database, tenant, digest)
            if now is None:
                raise
            task, current = now
            raise FailedPrecondition(
                f"suite {digest} of task {task} was rewritten when a subject was erased: name {current} in its place",
                reason="SUITE_REWRITTEN", field="data.curation.leakage.suites",
            ) from None  # fmt: skip

    async def _judged(self, command: BuildDataset, unjudged: Sequence[dict[str, str]]) -> dict[str, int]:
        spec: JudgeSpec | None = command.spec.data.curation.judge
        if spec is None:
            raise FailedPrecondition("a build asks for scores and the task names no judge", reason="NO_JUDGE")
        for at in range(0, len(unjudged), _MOST_JUDGED):
            scores = await judge(self._chat, spec, unjudged[at : at + _MOST_JUDGED])
            async with self._database.unit() as unit:
                await policy.keep_verdicts(unit, command.tenant, command.task, scores)
        return await policy.verdicts(self._database, command.tenant, command.task)

    async def _keep(self, base: Dataset, before: Dataset | None, result: dict[str, Any], out: Path) -> Built:
        objects = self._library.objects(base.tenant)
        suite: Suite | None = None
        if result["suite_is_new"] or before is None:
            about = {"tenant": base.tenant, "task": base.task, "version": result["suite_version"]}
            digest = await objects.put_tree(out / "suite", kind="suite", metadata={"kind": "suite", **about})
            suite = Suite(result["suite_version"], digest, result["suite_items"])
        suite_digest = suite.digest if suite is not None else before.suite_digest if before is not None else ""
        report_digest = await objects.put_file(out / "dataset" / "report.json", kind="report")
        ledger_digest = await objects.put_file(out / "ledger.parquet", kind="ledger")
        metadata = {
            "kind": "dataset", **result["metadata"], "suite_digest": suite_digest, "ledger_digest": ledger_digest,
        }  # fmt: skip
        digest = await objects.put_tree(out / "dataset", kind="dataset", metadata=metadata)
        built = replace(
            base,
            digest=digest,
            report_digest=report_digest,
            ledger_digest=ledger_digest,
            suite_digest=suite_digest,
            suite_version=result["suite_version"],
            splits=result["splits"],
            removed=result["removed"],
            categories=result["categories"],
        )
        return Built(built, suite, result["review"])


def _digests(out: Path) -> set[str]:
    """Digests of the files of a build; what is empty is everybody's."""
    found = {digest_file(path) for path in out.rglob("*") if path.is_file()}
    return {digest for digest, size in found if size}
