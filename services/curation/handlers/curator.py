"""Segments and tasks become known, and a command becomes a dataset version: once, however often it is delivered."""

from collections.abc import Sequence

from libs.contracts.commands import BuildDataset
from libs.contracts.envelope import Envelope
from libs.contracts.errors import InvalidInput, Unavailable
from libs.contracts.events import DatasetBuilt, DatasetRefused, SegmentsRewritten, SegmentWritten, TaskApplied
from libs.eventing.cloudevents import decode
from libs.eventing.deadletters import Letter
from libs.outbox.database import Database
from libs.telemetry import get_logger, span
from services.curation.handlers.building import Builder, Built
from services.curation.store import datasets as store
from services.curation.store import erasures, policy, review, staged
from services.curation.store.datasets import Dataset
from services.curation.store.segments import over_segments

log = get_logger(__name__)

SEGMENTS, BUILD, TASKS = "curation-segments", "curation-build", "curation-tasks"
REWRITTEN = "curation-rewritten"


class Curator:
    """Handles what curation subscribes to."""

    def __init__(self, database: Database, builder: Builder) -> None:
        self._database = database
        self._builder = builder

    async def learn_segment(self, envelope: Envelope[SegmentWritten]) -> None:
        """A segment exists."""
        async with self._database.unit(envelope, SEGMENTS) as unit:
            if not unit.already_handled:
                await store.learn_segment(unit, envelope.data)

    async def learn_rewritten(self, envelope: Envelope[SegmentsRewritten]) -> None:
        """Segments have other bytes: builds read the new objects from now on, and the old ones go."""
        fact = envelope.data
        async with self._database.unit(envelope, REWRITTEN) as unit:
            if not unit.already_handled:
                for each in fact.segments:
                    await store.replace_segment(unit, fact.tenant, fact.task, each)
        await self._builder.discard(fact.tenant, [each.before for each in fact.segments])

    async def learn_task(self, envelope: Envelope[TaskApplied]) -> None:
        """A task was declared or changed."""
        async with self._database.unit(envelope, TASKS) as unit:
            if not unit.already_handled:
                await policy.learn_task(unit, envelope.data)

    async def build(self, envelope: Envelope[BuildDataset]) -> None:
        """Build the version, or repeat what came of it.

        Unavailable while a segment up to its watermark is missing, Conflict when somebody was erased meanwhile.
        """
        command = envelope.data
        with span("build dataset", parent=envelope.traceparent, task=command.task, number=command.number):
            known = await store.find(self._database, command.tenant, command.task, command.number)
            if known is not None:
                await self._conclude(envelope, Built(known), repeated=True)
                return

            async def build(segments: Sequence[tuple[int, str]]) -> Built:
                if len(segments) < command.watermark:
                    raise Unavailable(
                        f"{len(segments)} of {command.watermark} segments of {command.task} are known yet",
                        reason="SEGMENTS_BEHIND",
                    )
                return await self._builder.build(command, segments)

            built = await over_segments(
                self._database, command.tenant, command.task, build, watermark=command.watermark
            )
            await self._conclude(envelope, built, repeated=False)

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
        await self._conclude(envelope, Built(refused), repeated=known is not None)

    async def _conclude(self, envelope: Envelope[BuildDataset], built: Built, *, repeated: bool) -> None:
        dataset = built.dataset
        async with self._database.unit(envelope, BUILD) as unit:
            if unit.already_handled:
                return
            if not repeated:
                if built.heeded is not None:
                    await erasures.heeded(unit, dataset.tenant, dataset.task, built.heeded)
                await store.keep(unit, dataset, built.suite)
                await staged.forget(unit, dataset.tenant, dataset.task, built.staged)
                await review.ask(unit, dataset.tenant, dataset.task, built.questions, dataset.number)
            unit.emit(_fact(dataset), output="dataset", turn_id=envelope.data.turn_id)
        log.info(
            "dataset refused" if dataset.refused else "dataset built", task=dataset.task, number=dataset.number,
            reason=dataset.refused, splits=dataset.splits, removed=dataset.removed, repeated=repeated,
        )  # fmt: skip


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
