"""Every mistake gets a clear line that names the place, and a status that is not zero."""

from pathlib import Path

import httpx
import pytest

from tests.e2e.stack import RunningStack, small_task


def test_an_unknown_task_names_the_known_ones(stack: RunningStack, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"ticket_id": "1", "text": "a", "resolution": "{}", "category": "x", "form": "f"}\n')
    assert "support-triage" in stack.pawl("import", str(rows), "--task", "suport-triage", status=1)
    assert "support-triage" in stack.pawl("turns", "suport-triage", status=1)


def test_a_typo_in_the_task_file_names_line_and_nearest_key(stack: RunningStack, tmp_path: Path) -> None:
    file = small_task(tmp_path, **{"  rank:": "  ranck: 16"})
    said = stack.pawl("apply", str(file), status=1)
    assert "did you mean 'rank'" in said
    assert f"{file.name}:" in said


def test_a_base_that_does_not_exist_is_named(stack: RunningStack, tmp_path: Path) -> None:
    file = small_task(tmp_path, **{"base:": "base: ./nowhere"})
    assert "./nowhere" in stack.pawl("apply", str(file), status=1)


@pytest.mark.parametrize("name", ["absent.jsonl", "."])
def test_a_file_that_cannot_be_read_is_named(stack: RunningStack, tmp_path: Path, name: str) -> None:
    assert str(tmp_path) in stack.pawl("import", str(tmp_path / name), "--task", "support-triage", status=1)


def test_a_column_that_is_not_there_is_named_with_the_nearest(stack: RunningStack, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("instruction,category\nhello,x\n")
    said = stack.pawl(
        "import", str(rows), "--task", "support-triage", "-c", "input=instructon", "-c", "category=category", status=1
    )
    assert "instructon" in said
    assert "instruction" in said


def test_rubbish_is_refused_whole_and_nothing_of_it_becomes_visible(stack: RunningStack, tmp_path: Path) -> None:
    rows = tmp_path / "rubbish.jsonl"
    rows.write_bytes(bytes(range(256)) * 400)
    with stack.client() as pawl:
        before = pawl.intake("support-triage").watermark
        stack.pawl("import", str(rows), "--task", "support-triage", status=1)
        assert pawl.intake("support-triage").watermark == before


def test_feedback_that_is_none_is_named_by_line_and_field_and_none_of_the_file_is_sent(
    stack: RunningStack, tmp_path: Path
) -> None:
    events = tmp_path / "events.jsonl"
    events.write_text('{"kind": "error", "input": "x"}\n\n{"kind": "rating", "rating": "five", "input": "x"}\n')
    with stack.client() as pawl:
        before = pawl.intake("support-triage").kinds.get("error", 0)
        assert f"{events}:3: rating: " in stack.pawl("feedback", str(events), "--task", "support-triage", status=1)
        assert pawl.intake("support-triage").kinds.get("error", 0) == before


def test_feedback_for_an_unknown_task_is_refused(stack: RunningStack, tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    events.write_text('{"kind": "error", "input": "x"}\n')
    assert "'suport-triage'" in stack.pawl("feedback", str(events), "--task", "suport-triage", status=1)
    assert "not UTF-8" in stack.pawl("feedback", "/bin/true", "--task", "support-triage", status=1)


def test_a_second_stack_in_the_same_directory_is_refused(stack: RunningStack) -> None:
    assert "already up" in stack.pawl("up", status=1)


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"model": "no-such-task", "messages": [{"role": "user", "content": "x"}]}, 404, "model"),
        ({"model": "support-triage", "messages": []}, 400, "messages"),
        (
            {"model": "support-triage", "messages": [{"role": "user", "content": "x"}], "max_tokens": -1},
            400,
            "max_tokens",
        ),
        ({"model": "support-triage", "messages": [{"role": "user", "content": "x " * 3000}]}, 400, "messages"),
        ({"model": "support-triage@99", "messages": [{"role": "user", "content": "x"}]}, 404, "model"),
    ],
)
def test_a_bad_request_gets_the_right_status_and_names_the_field(
    stack: RunningStack, body: dict[str, object], status: int, param: str
) -> None:
    told = stack.status()
    headers = {"authorization": f"Bearer {told['api_key']}"}
    answer = httpx.post(f"{told['endpoints']['http']}/chat/completions", json=body, headers=headers, timeout=30)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["param"] == param


def test_a_wrong_key_is_refused(stack: RunningStack) -> None:
    url = f"{stack.status()['endpoints']['http']}/models"
    assert httpx.get(url, headers={"authorization": "Bearer wrong"}).status_code == 401
    assert httpx.get(url).status_code == 401
