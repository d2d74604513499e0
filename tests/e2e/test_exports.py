"""An export that is served is asked what its trainer recorded, as an adapter is, and refused when it says otherwise."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from libs.contracts.parity import PARITY_FILE
from services.trainer.compute.export import export
from services.trainer.domain.protocol import Export
from services.trainer.tests.support import write_dataset
from services.trainer.tests.test_training import train
from tests.e2e.stack import EXAMPLE, RunningStack, small_task, until


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Base and adapter of a short run as one model."""
    home = tmp_path_factory.mktemp("export")
    base = EXAMPLE / "base"
    adapter = train(base, write_dataset(home / "data", 60), home / "run", learning_rate=1e-2).last("finished")["path"]
    return Path(export(Export(base=str(base), adapter=adapter, destination=str(home / "merged"))).path)


def judged(stack: RunningStack, task: str, base: Path, home: Path) -> dict[str, Any]:
    """The first gate of a report on what a task's engine serves."""
    items = home / "items.jsonl"
    rows = [{"item_id": f"i{at}", "messages": [{"role": "user", "content": "hm"}], "answer": "x"} for at in range(4)]
    items.write_text("".join(json.dumps(row) + "\n" for row in rows))
    stack.pawl("apply", str(small_task(home, **{"task:": f"task: {task}", "base:": f"base: {base}"})))
    with stack.client() as pawl:
        begun = pawl.evaluate(task, 0, suite=items).report_id
        state = until(lambda: (it := pawl.report_state(begun)).state != "running" and it, 240, f"report of {task}")
        assert state.state != "failed", state.reason
        gate: dict[str, Any] = pawl.report(begun)["gates"][0]
    return gate


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_merged_export_that_is_served_says_what_was_trained(
    stack: RunningStack, merged: Path, tmp_path: Path
) -> None:
    gate = judged(stack, "triage-merged", merged, tmp_path)
    assert (gate["gate"], gate["verdict"]) == ("served-as-trained", "pass"), gate


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_base_that_is_served_in_the_name_of_an_export_is_refused(
    stack: RunningStack, merged: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(EXAMPLE / "base", tmp_path / "base")
    shutil.copyfile(merged / PARITY_FILE, other / PARITY_FILE)
    gate = judged(stack, "triage-unmerged", other, tmp_path)
    assert (gate["gate"], gate["verdict"]) == ("served-as-trained", "fail"), gate
