"""Training runs: looking at them, planning them, making them again."""

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from libs.contracts.errors import InvalidInput
from libs.contracts.stubs.pawl.trainer.v1 import trainer_pb2, trainer_pb2_grpc
from libs.contracts.task import TaskSpec
from pawl.client.bases import find_base
from pawl.client.calls.base import DEADLINE_SECONDS, Calls, rpc

SURVEY_SECONDS = 600.0
REMAKE_SECONDS = 24 * 3600.0


class TrainingCalls(Calls):
    """Calls to the trainer."""

    def runs(self, task: str) -> list[trainer_pb2.Run]:
        """Runs of a task, newest first."""
        with rpc("trainer"):
            return list(self._trainer().ListRuns(trainer_pb2.ListRunsRequest(task=task), timeout=DEADLINE_SECONDS).runs)

    def run(self, run_id: str) -> trainer_pb2.Run:
        """One run as it stands."""
        with rpc("trainer"):
            return self._trainer().GetRun(trainer_pb2.GetRunRequest(run_id=run_id), timeout=DEADLINE_SECONDS).run

    def plan(
        self,
        spec: TaskSpec,
        base_digest: str,
        dataset_digest: str = "",
        *,
        rows: int = 0,
        mean_tokens: int = 0,
        longest_tokens: int = 0,
        device: str = "",
        prices: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What a run would be: memory by part in bytes, time, price; rows are imagined without a dataset."""
        request = trainer_pb2.PlanRunRequest(
            spec_json=spec.model_dump_json(), base_digest=base_digest, dataset_digest=dataset_digest, rows=rows,
            mean_tokens=mean_tokens, longest_tokens=longest_tokens, device=device,
            prices_json=json.dumps(prices) if prices is not None else "",
        )  # fmt: skip
        with rpc("trainer"):
            answer = self._trainer().PlanRun(request, timeout=SURVEY_SECONDS)
        plan: dict[str, Any] = json.loads(answer.plan_json)
        return plan

    def mask(self, spec: TaskSpec, base_digest: str, dataset_digest: str, rows: int) -> dict[str, Any]:
        """Rows as they would be trained: parts of text, each trained or not."""
        request = trainer_pb2.ShowMaskRequest(
            spec_json=spec.model_dump_json(), base_digest=base_digest, dataset_digest=dataset_digest, rows=rows
        )
        with rpc("trainer"):
            answer = self._trainer().ShowMask(request, timeout=SURVEY_SECONDS)
        mask: dict[str, Any] = json.loads(answer.mask_json)
        return mask

    def describe_run(self, run_id: str, *, estimate: bool) -> trainer_pb2.DescribeRunResponse:
        """A run with its manifest and its plan beside what came of it."""
        request = trainer_pb2.DescribeRunRequest(run_id=run_id, estimate=estimate)
        with rpc("trainer"):
            return self._trainer().DescribeRun(request, timeout=SURVEY_SECONDS)

    def reproduce(self, run_id: str) -> Iterator[trainer_pb2.ReproduceRunResponse]:
        """Train an ended run again; the last message says whether every byte is the same."""
        with rpc("trainer"):
            request = trainer_pb2.ReproduceRunRequest(run_id=run_id)
            yield from self._trainer().ReproduceRun(request, timeout=REMAKE_SECONDS)

    def export_run(self, run_id: str, destination: Path, *, form: str = "merged") -> str:
        """Write base and adapter of a run, merged, to a directory; returns the digest they have in object storage.

        `form` "nf4" writes the same in four bits.
        """
        if destination.exists() and any(destination.iterdir()):
            raise InvalidInput(f"{destination} is not empty", field="destination")
        with rpc("trainer"):
            request = trainer_pb2.ExportRunRequest(run_id=run_id, form=form)
            digest = self._trainer().ExportRun(request, timeout=SURVEY_SECONDS).digest
        asyncio.run(self.connection.objects().fetch_tree(digest, destination))
        return digest

    def upload_teacher(self, directory: Path) -> str:
        """Upload a model whose weights are to be distilled; returns the digest that `recipe.teacher` takes."""
        checked = find_base(str(directory.resolve()), directory.resolve().parent)
        return str(asyncio.run(self.connection.objects().put_tree(checked, kind="base", metadata={})))

    def upload_replay(self, file: Path) -> str:
        """Upload rows of general data; returns the digest that `recipe.replay.dataset` takes.

        Lines `{"messages": [...]}`, the last message an answer. Raises InvalidInput naming the line that is not one.
        """
        with tempfile.TemporaryDirectory() as name:
            rows = "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in _general(file))
            (Path(name) / "train.jsonl").write_text(rows, encoding="utf-8")
            about: dict[str, object] = {"rows": rows.count("\n")}
            return str(asyncio.run(self.connection.objects().put_tree(Path(name), kind="replay", metadata=about)))

    def sweep(self, spec: TaskSpec, base_digest: str, dataset_digest: str) -> Iterator[trainer_pb2.SweepRecipeResponse]:
        """Try the recipes that `recipe.sweep` declares; a message a trial, the last with the best."""
        request = trainer_pb2.SweepRecipeRequest(
            spec_json=spec.model_dump_json(), base_digest=base_digest, dataset_digest=dataset_digest
        )
        with rpc("trainer"):
            yield from self._trainer().SweepRecipe(request, timeout=REMAKE_SECONDS)

    def _trainer(self) -> trainer_pb2_grpc.TrainerServiceStub:
        return trainer_pb2_grpc.TrainerServiceStub(self.channel("trainer"))


def _general(file: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{file}: {error}", field="file") from error
    if not any(line.strip() for line in lines):
        raise InvalidInput(f"{file} holds no rows", field="file")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            messages = [
                {"role": str(each["role"]), "content": str(each["content"])} for each in json.loads(line)["messages"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"{file}:{number}: not a row of messages: {error!r}", field="file") from error
        if len(messages) < 2 or messages[-1]["role"] != "assistant":
            raise InvalidInput(f"{file}:{number}: does not end with an assistant's answer", field="file")
        yield {"row_id": f"{number:08d}", "messages": messages}
