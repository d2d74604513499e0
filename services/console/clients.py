"""The other services' gRPC, asked side by side; one that does not answer is an answer too."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc

from libs.contracts.errors import NotFound, PawlError
from libs.contracts.stubs.pawl.curation.v1 import curation_pb2, curation_pb2_grpc
from libs.contracts.stubs.pawl.evaluator.v1 import (
    campaign_pb2,
    campaign_pb2_grpc,
    evaluator_pb2,
    evaluator_pb2_grpc,
    live_pb2,
    live_pb2_grpc,
)
from libs.contracts.stubs.pawl.ingestion.v1 import ingestion_pb2, ingestion_pb2_grpc
from libs.contracts.stubs.pawl.registry.v1 import registry_pb2, registry_pb2_grpc
from libs.contracts.stubs.pawl.trainer.v1 import trainer_pb2, trainer_pb2_grpc
from libs.runtime.grpc_client import call, channel

T = TypeVar("T")

_STUBS: dict[str, Callable[[grpc.aio.Channel], Any]] = {
    "registry": registry_pb2_grpc.RegistryServiceStub,
    "evaluator": evaluator_pb2_grpc.EvaluatorServiceStub,
    "curation": curation_pb2_grpc.CurationServiceStub,
    "trainer": trainer_pb2_grpc.TrainerServiceStub,
    "ingestion": ingestion_pb2_grpc.IngestionServiceStub,
}


_BESIDE: dict[str, tuple[str, Callable[[grpc.aio.Channel], Any]]] = {
    "campaigns": ("evaluator", campaign_pb2_grpc.CampaignServiceStub),
    "live": ("evaluator", live_pb2_grpc.LiveServiceStub),
}
"""Further services of a process, reached by its channel and told by its name."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What a service said, or why it said nothing. `missing` means that it answered, but knows no such thing."""

    service: str
    value: T | None = None
    trouble: str = ""
    missing: bool = False


@dataclass(frozen=True, slots=True)
class TaskAnswers:
    """Everything a task's page is made of."""

    tasks: Answer[registry_pb2.ListTasksResponse]
    turns: Answer[registry_pb2.ListTurnsResponse]
    versions: Answer[registry_pb2.ListVersionsResponse]
    assessments: Answer[evaluator_pb2.ListAssessmentsResponse]
    datasets: Answer[curation_pb2.ListDatasetsResponse]
    runs: Answer[trainer_pb2.ListRunsResponse]
    intake: Answer[ingestion_pb2.GetIntakeResponse]

    def away(self) -> dict[str, str]:
        """Services that did not answer, with the reason."""
        answers: tuple[Answer[Any], ...] = (
            self.tasks, self.turns, self.versions, self.assessments, self.datasets, self.runs, self.intake,
        )  # fmt: skip
        return {answer.service: answer.trouble for answer in answers if answer.trouble and not answer.missing}


class Services:
    """Channels to the services by `addresses`; each question has `deadline` seconds."""

    def __init__(self, addresses: Mapping[str, str | None], deadline: float) -> None:
        self._deadline = deadline
        self._channels = {name: channel(address) for name, address in addresses.items() if address}
        self._stubs = {name: _STUBS[name](opened) for name, opened in self._channels.items()}
        self._stubs |= {
            name: stub(self._channels[process])
            for name, (process, stub) in _BESIDE.items()
            if process in self._channels
        }

    async def close(self) -> None:
        """Close all channels."""
        await asyncio.gather(*(opened.close() for opened in self._channels.values()))

    async def tasks(self) -> Answer[registry_pb2.ListTasksResponse]:
        """All tasks with their routes."""
        return await self._ask("registry", "ListTasks", registry_pb2.ListTasksRequest())

    async def turns(self, task: str) -> Answer[registry_pb2.ListTurnsResponse]:
        """Turns of a task, oldest first."""
        return await self._ask("registry", "ListTurns", registry_pb2.ListTurnsRequest(task=task))

    async def decisions(self, task: str) -> Answer[registry_pb2.ListDecisionsResponse]:
        """The audit log of a task."""
        return await self._ask("registry", "ListDecisions", registry_pb2.ListDecisionsRequest(task=task))

    async def live(self, task: str) -> Answer[live_pb2.GetLiveResponse]:
        """What production shows of a task now."""
        return await self._ask("live", "GetLive", live_pb2.GetLiveRequest(task=task))

    async def campaigns(self, task: str) -> Answer[campaign_pb2.ListCampaignsResponse]:
        """Blind campaigns of a task."""
        return await self._ask("campaigns", "ListCampaigns", campaign_pb2.ListCampaignsRequest(task=task))

    async def campaign(self, campaign_id: str) -> Answer[campaign_pb2.GetCampaignResponse]:
        """One blind campaign."""
        return await self._ask("campaigns", "GetCampaign", campaign_pb2.GetCampaignRequest(campaign_id=campaign_id))

    async def standing(self, campaign_id: str) -> Answer[campaign_pb2.GetStandingResponse]:
        """What the votes of a closed campaign show."""
        return await self._ask("campaigns", "GetStanding", campaign_pb2.GetStandingRequest(campaign_id=campaign_id))

    async def take_pair(self, campaign_id: str, reviewer: str) -> Answer[campaign_pb2.TakePairResponse]:
        """The next pair for a reviewer."""
        request = campaign_pb2.TakePairRequest(campaign_id=campaign_id, reviewer=reviewer)
        return await self._ask("campaigns", "TakePair", request)

    async def cast_vote(self, request: campaign_pb2.CastVoteRequest) -> Answer[campaign_pb2.CastVoteResponse]:
        """A reviewer's vote."""
        return await self._ask("campaigns", "CastVote", request)

    async def undo_vote(self, campaign_id: str, reviewer: str) -> Answer[campaign_pb2.UndoVoteResponse]:
        """Take a reviewer's last vote back."""
        request = campaign_pb2.UndoVoteRequest(campaign_id=campaign_id, reviewer=reviewer)
        return await self._ask("campaigns", "UndoVote", request)

    async def about(self, task: str) -> TaskAnswers:
        """Everything about a task, asked at once."""
        questions: tuple[Awaitable[Answer[Any]], ...] = (
            self.tasks(),
            self.turns(task),
            self._ask("registry", "ListVersions", registry_pb2.ListVersionsRequest(task=task)),
            self._ask("evaluator", "ListAssessments", evaluator_pb2.ListAssessmentsRequest(task=task)),
            self._ask("curation", "ListDatasets", curation_pb2.ListDatasetsRequest(task=task)),
            self._ask("trainer", "ListRuns", trainer_pb2.ListRunsRequest(task=task)),
            self._ask("ingestion", "GetIntake", ingestion_pb2.GetIntakeRequest(task=task)),
        )
        return TaskAnswers(*await asyncio.gather(*questions))

    async def _ask(self, service: str, method: str, request: object) -> Answer[Any]:
        stub = self._stubs.get(service)
        service = _BESIDE[service][0] if service in _BESIDE else service
        if stub is None:
            return Answer(service, trouble="no address set")
        try:
            return Answer(service, await call(getattr(stub, method), request, timeout=self._deadline))
        except NotFound as error:
            return Answer(service, trouble=str(error), missing=True)
        except PawlError as error:
            return Answer(service, trouble=str(error))
