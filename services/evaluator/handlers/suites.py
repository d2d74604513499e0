"""Fetches and makes the suites of an evaluation."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from libs.artifacts import ObjectStore
from libs.contracts.commands import EvaluateModel
from libs.contracts.errors import InvalidInput
from libs.contracts.ids import digest_bytes
from libs.contracts.inference import Message
from libs.contracts.task import ExtraSuiteSpec
from libs.contracts.task.evaluation import TASK_SUITE, is_digest
from services.evaluator.clients.harness import Harness
from services.evaluator.domain.answers import Arm
from services.evaluator.domain.metrics.core import Column
from services.evaluator.domain.sheet import Suite
from services.evaluator.domain.suite import ITEMS_FILE, Item, parse_suite
from services.evaluator.domain.suites.edge import edge_items
from services.evaluator.domain.suites.general import general_items
from services.evaluator.domain.suites.safety import safety_items


class Shelf:
    """Trees of object storage on local disk, by digest."""

    def __init__(self, objects: ObjectStore, directory: Path, harness: Harness | None = None) -> None:
        self._objects = objects
        self._directory = directory
        self._harness = harness or Harness()

    async def tree(self, tenant: str, digest: str) -> Path:
        """The directory of a tree, fetched and verified."""
        destination = self._directory / digest.removeprefix("sha256:")
        return await self._objects.for_tenant(tenant).fetch_tree(digest, destination)

    async def suites(self, command: EvaluateModel) -> list[Suite]:
        """The task's own suite and those beside it, in the order of the task file."""
        items = await self._items(command.tenant, command.suite_digest, "suite_digest")
        own = Suite(TASK_SUITE, TASK_SUITE, command.suite_digest, items)
        extra = [await self._extra(command, spec, items) for spec in command.spec.evaluation.suites]
        return [own, *extra]

    async def _extra(self, command: EvaluateModel, spec: ExtraSuiteSpec, items: tuple[Item, ...]) -> Suite:
        match spec.kind:
            case "general":
                made = general_items(spec.items, spec.seed, spec.system)
            case "edge":
                made = await asyncio.to_thread(edge_items, items, spec.items, spec.seed, spec.attacks, spec.variants)
            case "safety":
                made = safety_items(spec.items, spec.seed, spec.system)
            case "items":
                file = _uploaded(spec)
                whole = await self._items(command.tenant, file, "evaluation.suites.file")
                return Suite(spec.name, spec.kind, file, whole[: spec.items])
            case "harness":
                made = await self._planned(command, spec)
            case _:
                raise InvalidInput(
                    f"suite {spec.name!r} of kind {spec.kind} is not made here", field="evaluation.suites"
                )
        return Suite(spec.name, spec.kind, digest_of(made), made)

    async def _planned(self, command: EvaluateModel, spec: ExtraSuiteSpec) -> tuple[Item, ...]:
        tree = await self.tree(command.tenant, _uploaded(spec))
        told = await self._harness.items(tree, spec.tasks, spec.items, spec.seed)
        system = (Message(role="system", content=spec.system),) if spec.system else ()
        return tuple(
            Item(
                each["item_id"], (*system, Message(role="user", content=each["prompt"])), each["answer"],
                each["item_id"].split(":")[1], each["item_id"],
            )
            for each in told["items"]
        )  # fmt: skip

    async def harness_columns(
        self, command: EvaluateModel, suite: Suite, arms: Sequence[Arm]
    ) -> dict[str, dict[str, Column]]:
        """Arm -> `harness` -> what lm-eval says of its answers."""
        spec = next(each for each in command.spec.evaluation.suites if each.name == suite.name)
        tree = await self.tree(command.tenant, _uploaded(spec))
        columns = {}
        for arm in arms:
            answers = {item.item_id: arm.answers[item.item_id].text for item in suite.items}
            told = await self._harness.scores(tree, spec.tasks, spec.items, spec.seed, answers)
            metrics = ",".join(f"{task}:{metric}" for task, metric in sorted(told["metrics"].items()))
            scores = tuple(told["scores"].get(item.item_id) for item in suite.items)
            columns[arm.name] = {"harness": Column(f"lm-eval:{told['version']}|{metrics}|v1", scores)}
        return columns

    async def _items(self, tenant: str, digest: str, field: str) -> tuple[Item, ...]:
        tree = await self.tree(tenant, digest)
        file = tree / ITEMS_FILE
        if not file.is_file():
            raise InvalidInput(f"suite {digest} holds no {ITEMS_FILE}", field=field)
        return parse_suite(await asyncio.to_thread(file.read_text, encoding="utf-8"))


def _uploaded(spec: ExtraSuiteSpec) -> str:
    file = spec.file or ""
    if not is_digest(file):
        raise InvalidInput(
            f"suite {spec.name!r}: {file!r} was not uploaded: apply the task with `pawl apply`",
            field="evaluation.suites.file",
        )
    return file


def digest_of(items: tuple[Item, ...]) -> str:
    """Digest of items that were made: the same seed gives the same one."""
    rows = [
        [item.item_id, [[each.role, each.content] for each in item.messages], item.answer, item.category, item.group]
        for item in items
    ]
    return digest_bytes(json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode())
