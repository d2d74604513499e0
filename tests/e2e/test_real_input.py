"""Published data, as it is, through the same commands."""

from pathlib import Path

import pytest

from tests.e2e.stack import ROOT, RunningStack, small_task, until

CSV = ROOT.parent / "shared" / "data" / "customer_support.csv"
ENDS = ("promoted", "refused", "rolled_back", "failed", "cancelled")
TASK = "customer-support"


@pytest.fixture(scope="module")
def task_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = small_task(tmp_path_factory.mktemp("task"))
    head, tail = file.read_text().split("output:", 1)
    head = head.replace("task: support-triage", f"task: {TASK}").replace("Triage the ticket.", "Name the category.")
    rest = tail.split("data:", 1)[1].split("recipe:", 1)
    data = "output: {max_tokens: 12}\n\ndata:\n  columns: {input: instruction, category: category}\n\nrecipe:"
    gates = rest[1].replace("at_least: 0.5", "at_least: 0.01").replace("max_items: 400", "max_items: 60")
    file.write_text(head + data + "".join(line for line in gates.splitlines(True) if "valid-json" not in line))
    return file


@pytest.mark.slow
@pytest.mark.skipif(not CSV.exists(), reason="the published data is not here")
def test_a_published_csv_is_imported_curated_trained_evaluated_and_served(stack: RunningStack, task_file: Path) -> None:
    stack.pawl("apply", str(task_file))
    said = stack.pawl("import", str(CSV), "--task", TASK)
    assert "rows" in said
    assert "accepted" in said
    with stack.client() as pawl:
        until(lambda: pawl.turns(TASK), 30, "opened by the import")
        until(lambda: pawl.turns(TASK)[0].state in (*ENDS, "shadow"), 240, "ended")
        turn = pawl.turns(TASK)[0]
        assert turn.state in ("shadow", "refused"), turn.reason
        dataset, report = pawl.dataset(TASK)
        assert sum(dataset.splits.values()) > 1000
        assert report
        evaluated = pawl.report(pawl.reports(TASK)[0].report_id)
        assert evaluated["arms"]["fine_tuned"]["exact_match"]["n"] == 60
    stack.wait_healthy()
    assert stack.pawl("generate", TASK, "where is my order?").strip()
