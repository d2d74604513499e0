"""Work the registry asks for; nobody else sends commands."""

from typing import ClassVar

from pydantic import Field

from libs.contracts.envelope import Event
from libs.contracts.task import TaskSpec


class Command(Event):
    """Base of all commands: which task, which turn, under which specification."""

    tenant: str
    task: str
    turn_id: str
    spec: TaskSpec


class BuildDataset(Command):
    """Build dataset version `number` from all segments up to `watermark` (a segment sequence number, inclusive)."""

    subject: ClassVar[str] = "cmd.curation.build.v1"

    number: int
    watermark: int


class TrainModel(Command):
    """Train one adapter on a dataset version; `continue_from` is an adapter digest, empty for from-base."""

    subject: ClassVar[str] = "cmd.trainer.train.v1"

    run_id: str
    dataset_digest: str
    base_digest: str
    continue_from: str = ""


class Contender(Event):
    """One arm of an evaluation: `name` is base, fine_tuned or stable; `version` is asked of the gateway."""

    subject: ClassVar[str] = ""

    name: str
    version: int
    digest: str


class EvaluateModel(Command):
    """Evaluate `candidate` against `baselines` on the frozen suite `suite_digest`, generated through serving."""

    subject: ClassVar[str] = "cmd.evaluator.evaluate.v1"

    report_id: str
    candidate: Contender
    baselines: tuple[Contender, ...]
    suite_digest: str = Field(description="manifest of the frozen gate suite")
    dataset_digest: str
