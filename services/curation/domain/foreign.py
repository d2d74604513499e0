"""The evaluation suites beside the task's own: which of them training is kept clean of, and which it cannot be."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from libs.contracts.errors import InvalidInput
from libs.contracts.task import ExtraSuiteSpec, TaskSpec
from libs.contracts.task.evaluation import is_digest

_MADE = {
    "harness": "lm-eval makes its texts of its own data when it is evaluated: they are not to be had here",
    "general": "the evaluator makes its texts when it is evaluated: they are not to be had here",
    "safety": "the evaluator makes its texts when it is evaluated: they are not to be had here",
}


@dataclass(frozen=True, slots=True)
class Foreign:
    """One suite: `digest` is that of its tree with `items.jsonl`, empty where its texts are not read from one.

    `why` says of a suite without a digest how it is covered, or why it is not.
    """

    name: str
    kind: str
    digest: str
    covered: bool
    why: str = ""

    def told(self, items: Mapping[str, int]) -> dict[str, Any]:
        """What the manifest says of it; `items` counts those of each digest that was read."""
        covered = self.covered and (not self.digest or self.digest in items)
        found: dict[str, Any] = {"suite": self.name, "kind": self.kind, "covered": covered}
        if self.digest:
            found |= {"digest": self.digest, "items": items.get(self.digest, 0)}
        return found | ({"why": self.why} if self.why else {})


def foreign_suites(spec: TaskSpec) -> list[Foreign]:
    """Those of `data.curation.leakage.suites` and of `evaluation.suites`; InvalidInput where one was not uploaded."""
    named = [Foreign(digest, "leakage", digest, covered=True) for digest in spec.data.curation.leakage.suites]
    return [*named, *(_foreign(each) for each in spec.evaluation.suites)]


def _foreign(suite: ExtraSuiteSpec) -> Foreign:
    if suite.kind == "items":
        file = suite.file or ""
        if not is_digest(file):
            raise InvalidInput(
                f"suite {suite.name!r}: {file!r} was not uploaded: apply the task with `pawl apply`",
                field="evaluation.suites.file",
            )
        return Foreign(suite.name, suite.kind, file, covered=True)
    if suite.kind == "edge":
        return Foreign(suite.name, suite.kind, "", covered=True, why="it is made of the task's own suite")
    return Foreign(suite.name, suite.kind, "", covered=False, why=_MADE[suite.kind])
