"""gRPC of curation: dataset versions and their reports."""

from collections.abc import Callable
from typing import Any

from libs.artifacts import ObjectStore
from libs.contracts.stubs.pawl.curation.v1 import curation_pb2 as pb
from libs.contracts.stubs.pawl.curation.v1.curation_pb2_grpc import CurationServiceServicer
from libs.outbox.database import Database
from services.curation.store import datasets as store
from services.curation.store.datasets import Dataset

SERVICE = "pawl.curation.v1.CurationService"


class CurationServicer(CurationServiceServicer):
    """Translates calls."""

    def __init__(self, database: Database, objects: Callable[[str], ObjectStore], *, tenant: str) -> None:
        self._database = database
        self._objects = objects
        self._tenant = tenant

    async def GetDataset(self, request: pb.GetDatasetRequest, context: Any) -> pb.GetDatasetResponse:  # noqa: N802, ARG002
        """One version with its report."""
        dataset = await store.get(self._database, self._tenant, request.task, request.number)
        report = await self._objects(self._tenant).get_bytes(dataset.report_digest)
        return pb.GetDatasetResponse(dataset=_message(dataset), report_json=report.decode())

    async def ListDatasets(  # noqa: N802 - named by the protocol
        self,
        request: pb.ListDatasetsRequest,
        context: Any,  # noqa: ARG002
    ) -> pb.ListDatasetsResponse:
        """Versions of a task, newest first."""
        found = await store.listed(self._database, self._tenant, request.task)
        return pb.ListDatasetsResponse(datasets=[_message(each) for each in found])


def _message(dataset: Dataset) -> pb.Dataset:
    return pb.Dataset(
        task=dataset.task,
        number=dataset.number,
        digest=dataset.digest,
        report_digest=dataset.report_digest,
        suite_digest=dataset.suite_digest,
        suite_version=dataset.suite_version,
        splits=dataset.splits,
        removed=dataset.removed,
        categories=dataset.categories,
        watermark=dataset.watermark,
    )
