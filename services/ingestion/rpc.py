"""gRPC of ingestion: imports in, counts and segments out."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from libs.artifacts import ObjectStore
from libs.contracts.errors import InvalidInput, NotFound
from libs.contracts.stubs.pawl.ingestion.v1 import ingestion_pb2 as pb
from libs.contracts.stubs.pawl.ingestion.v1.ingestion_pb2_grpc import IngestionServiceServicer
from libs.outbox.database import Database
from services.ingestion.clients.tasks import Tasks
from services.ingestion.domain.imports import Progress
from services.ingestion.store import imports, segments, signals

SERVICE = "pawl.ingestion.v1.IngestionService"
_SHOWN_QUARANTINE = 1000
_MOST_SEGMENTS = 1000
_CHUNK = 256 * 1024

RunImport = Callable[[pb.ImportHeader, AsyncIterator[bytes]], Awaitable[imports.ImportRecord]]


class IngestionServicer(IngestionServiceServicer):
    """Translates calls; `run_import` does the work of an import."""

    def __init__(
        self,
        database: Database,
        tasks: Tasks,
        objects: ObjectStore,
        run_import: RunImport,
        progress: Callable[[str, str], Progress | None],
        *,
        tenant: str,
    ) -> None:
        """`objects` is the tenant's store; `progress` knows how far the import of a tenant's ticket has come."""
        self._database = database
        self._tasks = tasks
        self._objects = objects
        self._run_import = run_import
        self._progress = progress
        self._tenant = tenant

    async def ImportFile(  # noqa: N802 - named by the protocol
        self,
        request_iterator: AsyncIterator[pb.ImportFileRequest],
        context: Any,  # noqa: ARG002
    ) -> pb.ImportFileResponse:
        """Header first, then the file's bytes."""
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("part") != "header":
            raise InvalidInput("the first message must be the header", field="header")
        record = await self._run_import(first.header, _chunks(request_iterator, first.header.uri))
        return pb.ImportFileResponse(**{"import": await self._import(record)})

    async def GetImport(self, request: pb.GetImportRequest, context: Any) -> pb.GetImportResponse:  # noqa: N802, ARG002
        """One import with its first quarantined rows."""
        record = await imports.owned(self._database, self._tenant, request.import_id)
        return pb.GetImportResponse(**{"import": await self._import(record)})

    async def GetImportProgress(  # noqa: N802
        self,
        request: pb.GetImportProgressRequest,
        context: Any,  # noqa: ARG002
    ) -> pb.GetImportProgressResponse:
        """How far an import has come."""
        told = self._progress(self._tenant, request.ticket)
        if told is None:
            raise NotFound(f"no import is known by the ticket {request.ticket!r}", field="ticket")
        return pb.GetImportProgressResponse(
            state=told.state, rows=told.rows, accepted=told.accepted,
            quarantined=told.quarantined, fraction=told.fraction,
        )  # fmt: skip

    async def DownloadQuarantine(  # noqa: N802
        self,
        request: pb.DownloadQuarantineRequest,
        context: Any,  # noqa: ARG002
    ) -> AsyncIterator[pb.DownloadQuarantineResponse]:
        """Every record that an import set aside."""
        await imports.owned(self._database, self._tenant, request.import_id)
        async for chunk in quarantine(self._database, self._objects, request.import_id):
            yield pb.DownloadQuarantineResponse(chunk=chunk)

    async def GetIntake(self, request: pb.GetIntakeRequest, context: Any) -> pb.GetIntakeResponse:  # noqa: N802, ARG002
        """Counts of what arrived."""
        await self._tasks.spec(self._tenant, request.task)
        intake = await signals.intake(self._database, self._tenant, request.task)
        return pb.GetIntakeResponse(
            kinds=intake.kinds,
            duplicates=intake.duplicates,
            rejected=intake.rejected,
            waiting_for_inference=intake.waiting,
            watermark=intake.watermark,
        )

    async def ListSegments(self, request: pb.ListSegmentsRequest, context: Any) -> pb.ListSegmentsResponse:  # noqa: N802, ARG002
        """Segments by number."""
        await self._tasks.spec(self._tenant, request.task)
        limit = min(request.limit or _MOST_SEGMENTS, _MOST_SEGMENTS)
        listed = await segments.segments_after(self._database, self._tenant, request.task, request.after, limit)
        return pb.ListSegmentsResponse(
            segments=[
                pb.Segment(
                    number=each.number, digest=each.digest, rows=each.rows, written_at=_timestamp(each.written_at)
                )
                for each in listed
            ]
        )

    async def _import(self, record: imports.ImportRecord) -> pb.Import:
        bad = await imports.quarantine_of(self._database, record.import_id, _SHOWN_QUARANTINE)
        return pb.Import(
            import_id=record.import_id,
            task=record.task,
            name=record.name,
            format=record.format,
            rows=record.rows,
            accepted=record.accepted,
            quarantined=record.quarantined,
            already_seen=record.already_seen,
            quarantine=[pb.QuarantinedRow(row=each.row, field=each.field, reason=each.reason) for each in bad],
            watermark=record.watermark,
            shape=record.shape,
            quarantine_digest=record.quarantine or "",
            state=record.state,
            unread=record.unread,
        )


async def quarantine(database: Database, objects: ObjectStore, import_id: str) -> AsyncIterator[bytes]:
    """The quarantine object of an import, chunk by chunk; nothing when it set nothing aside."""
    record = await imports.get(database, import_id)
    if record.quarantine is None:
        return
    with tempfile.TemporaryDirectory(prefix="pawl-quarantine-") as directory:
        path = await objects.fetch(record.quarantine, Path(directory) / "rows")
        with path.open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, _CHUNK):
                yield chunk


async def _chunks(requests: AsyncIterator[pb.ImportFileRequest], uri: str) -> AsyncIterator[bytes]:
    async for request in requests:
        if uri:
            raise InvalidInput("the header names a URI; no chunk may follow", field="uri")
        if request.WhichOneof("part") != "chunk":
            raise InvalidInput("after the header only chunks may follow", field="part")
        yield request.chunk


def _timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp
