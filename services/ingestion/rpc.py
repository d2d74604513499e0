"""gRPC of ingestion: imports in, counts and segments out."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from libs.contracts.errors import InvalidInput
from libs.contracts.stubs.pawl.ingestion.v1 import ingestion_pb2 as pb
from libs.contracts.stubs.pawl.ingestion.v1.ingestion_pb2_grpc import IngestionServiceServicer
from libs.outbox.database import Database
from services.ingestion.clients import Tasks
from services.ingestion.store import imports, segments, signals

SERVICE = "pawl.ingestion.v1.IngestionService"
_SHOWN_QUARANTINE = 1000
_MOST_SEGMENTS = 1000

RunImport = Callable[[pb.ImportHeader, AsyncIterator[bytes]], Awaitable[imports.ImportRecord]]


class IngestionServicer(IngestionServiceServicer):
    """Translates calls; `run_import` does the work of an import."""

    def __init__(self, database: Database, tasks: Tasks, run_import: RunImport, *, tenant: str) -> None:
        self._database = database
        self._tasks = tasks
        self._run_import = run_import
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
        record = await self._run_import(first.header, _chunks(request_iterator))
        return pb.ImportFileResponse(**{"import": await self._import(record)})

    async def GetImport(self, request: pb.GetImportRequest, context: Any) -> pb.GetImportResponse:  # noqa: N802, ARG002
        """One import with its first quarantined rows."""
        record = await imports.get(self._database, request.import_id)
        return pb.GetImportResponse(**{"import": await self._import(record)})

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
        )


async def _chunks(requests: AsyncIterator[pb.ImportFileRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise InvalidInput("after the header only chunks may follow", field="part")
        yield request.chunk


def _timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp
