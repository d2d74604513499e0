"""Imports and intake."""

from collections.abc import Callable, Iterator
from pathlib import Path

from libs.contracts.errors import InvalidInput, NotFound
from libs.contracts.stubs.pawl.ingestion.v1 import ingestion_pb2, ingestion_pb2_grpc
from pawl.client.calls.base import DEADLINE_SECONDS, Calls, rpc

CHUNK_BYTES = 256 * 1024
IMPORT_SECONDS = 3600.0


class DataCalls(Calls):
    """Calls to ingestion."""

    def import_file(
        self,
        task: str,
        file: Path | str,
        *,
        columns: dict[str, str] | None = None,
        file_format: str = "",
        shape: str = "",
        source: str = "",
        ticket: str = "",
        sent: Callable[[int], None] = lambda _: None,
    ) -> ingestion_pb2.Import:
        """Import a file, or the object of an `s3://bucket/key`; answers when every row is durable or quarantined.

        `sent` is told of each chunk's size as it leaves; by `ticket` the progress can be asked for meanwhile.
        """
        uri = str(file) if str(file).startswith("s3://") else ""
        path = Path(file)
        header = ingestion_pb2.ImportHeader(
            task=task, name=path.name, format=file_format, columns=columns or {}, source=source or path.stem,
            shape=shape, ticket=ticket, uri=uri,
        )  # fmt: skip

        def parts() -> Iterator[ingestion_pb2.ImportFileRequest]:
            yield ingestion_pb2.ImportFileRequest(header=header)
            if uri:
                return
            with path.open("rb") as opened:
                while chunk := opened.read(CHUNK_BYTES):
                    yield ingestion_pb2.ImportFileRequest(chunk=chunk)
                    sent(len(chunk))

        if not uri:
            readable(path)
        with rpc("ingestion"):
            done: ingestion_pb2.Import = getattr(
                self._ingestion().ImportFile(parts(), timeout=IMPORT_SECONDS), "import"
            )
            return done

    def import_progress(self, ticket: str) -> ingestion_pb2.GetImportProgressResponse | None:
        """How far the import of a ticket has come; None while nothing is known of it."""
        try:
            with rpc("ingestion"):
                asked = ingestion_pb2.GetImportProgressRequest(ticket=ticket)
                return self._ingestion().GetImportProgress(asked, timeout=DEADLINE_SECONDS)
        except NotFound:
            return None

    def imported(self, import_id: str) -> ingestion_pb2.Import:
        """One import, with its first quarantined rows."""
        with rpc("ingestion"):
            asked = ingestion_pb2.GetImportRequest(import_id=import_id)
            done: ingestion_pb2.Import = getattr(self._ingestion().GetImport(asked, timeout=DEADLINE_SECONDS), "import")
            return done

    def quarantine(self, import_id: str) -> Iterator[bytes]:
        """Every record that an import set aside, as JSON lines in chunks."""
        with rpc("ingestion"):
            asked = ingestion_pb2.DownloadQuarantineRequest(import_id=import_id)
            for part in self._ingestion().DownloadQuarantine(asked, timeout=IMPORT_SECONDS):
                yield part.chunk

    def intake(self, task: str) -> ingestion_pb2.GetIntakeResponse:
        """Counts of what arrived for a task."""
        with rpc("ingestion"):
            return self._ingestion().GetIntake(ingestion_pb2.GetIntakeRequest(task=task), timeout=DEADLINE_SECONDS)

    def _ingestion(self) -> "ingestion_pb2_grpc.IngestionServiceStub":
        return ingestion_pb2_grpc.IngestionServiceStub(self.channel("ingestion"))


def readable(path: Path) -> None:
    """Raise InvalidInput unless `path` is a file that can be read."""
    if not path.is_file():
        raise InvalidInput(f"{path}: no such file" if not path.exists() else f"{path}: not a file", field="file")
    try:
        path.open("rb").close()
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}", field="file") from error
