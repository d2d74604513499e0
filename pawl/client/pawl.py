"""Calls to a running Pawl, blocking and typed; every failure is an error of the one tree."""

from types import TracebackType
from typing import Self

from pawl.client.calls.campaigns import CampaignCalls
from pawl.client.calls.data import DataCalls
from pawl.client.calls.datasets import DatasetCalls
from pawl.client.calls.evaluation import EvaluationCalls
from pawl.client.calls.registry import RegistryCalls
from pawl.client.calls.review import ReviewCalls
from pawl.client.calls.serving import ServingCalls
from pawl.client.calls.training import TrainingCalls


class Pawl(
    RegistryCalls, DataCalls, DatasetCalls, ReviewCalls, TrainingCalls, EvaluationCalls, CampaignCalls, ServingCalls
):
    """One connection to Pawl; use it as a context manager."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
