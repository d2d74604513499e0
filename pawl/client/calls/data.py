"""Imports, intake and dataset versions."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from libs.contracts.errors import InvalidInput
from libs.contracts.stubs.pawl.curation.v1 import curation_pb2, curation_pb2_grpc
from libs.contracts.stubs.pawl.ingestion.v1 import ingestion_pb2, ingestion_pb2_grpc
from pawl.client.calls.base import DEADLINE_SECONDS, Calls, rpc

CHUNK_BYTES = 256 * 1024
IMPORT_SECONDS = 3600.0


class DataCalls(Calls):
    """Calls to ingestion and curation."""

    def import_file(
        self, task: str, path: Path, *, columns: dict[str, str] | None = None, file_format: str = "", source: str = ""
    ) -> ingestion_pb2.Import:
        """Import a file; answers when every row is durable or quarantined."""
        header = ingestion_pb2.ImportHeader(
            task=task, name=path.name, format=file_format, columns=columns or {}, source=source or path.stem
        )

        def parts() -> Iterator[ingestion_pb2.ImportFileRequest]:
            yield ingestion_pb2.ImportFileRequest(header=header)
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield ingestion_pb2.ImportFileRequest(chunk=chunk)

        if not path.is_file():
            raise InvalidInput(f"{path}: no such file" if not path.exists() else f"{path}: not a file", field="file")
        try:
            path.open("rb").close()
        except OSError as error:
            raise InvalidInput(f"{path}: cannot be read: {error.strerror}", field="file") from error
        with rpc("ingestion"):
            stub = ingestion_pb2_grpc.IngestionServiceStub(self.channel("ingestion"))
            done: ingestion_pb2.Import = getattr(stub.ImportFile(parts(), timeout=IMPORT_SECONDS), "import")
            return done

    def intake(self, task: str) -> ingestion_pb2.GetIntakeResponse:
        """Counts of what arrived for a task."""
        with rpc("ingestion"):
            stub = ingestion_pb2_grpc.IngestionServiceStub(self.channel("ingestion"))
            return stub.GetIntake(ingestion_pb2.GetIntakeRequest(task=task), timeout=DEADLINE_SECONDS)

    def dataset(self, task: str, number: int = 0) -> tuple[curation_pb2.Dataset, dict[str, Any]]:
        """A dataset version (0: the newest) and its report."""
        with rpc("curation"):
            stub = curation_pb2_grpc.CurationServiceStub(self.channel("curation"))
            answer = stub.GetDataset(curation_pb2.GetDatasetRequest(task=task, number=number), timeout=DEADLINE_SECONDS)
        return answer.dataset, json.loads(answer.report_json or "{}")
