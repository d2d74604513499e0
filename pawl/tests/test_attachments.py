"""What a task file names beside itself is uploaded and known by its digest."""

from pathlib import Path

import pytest

from libs.artifacts import ObjectStore
from libs.contracts.errors import InvalidInput
from libs.contracts.task import TaskSpec
from libs.contracts.task.evaluation import is_digest
from pawl.client.attachments import attach


def task(**evaluation: object) -> TaskSpec:
    return TaskSpec.model_validate({"task": "t", "base": "b", "evaluation": evaluation})


async def test_documents_and_suites_become_digests_and_twice_the_same(
    object_store: ObjectStore, tmp_path: Path
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("text")
    (tmp_path / "mine.jsonl").write_text("{}\n")
    spec = task(
        documents="./docs",
        arms=["base", "fine_tuned", {"name": "rag", "kind": "retrieval"}],
        suites=["safety", {"name": "mine", "kind": "items", "file": "mine.jsonl"}],
    )
    first = await attach(object_store, spec, tmp_path)
    assert first == await attach(object_store, spec, tmp_path)
    assert first == await attach(object_store, first, Path("/nowhere"))
    assert is_digest(first.evaluation.documents or "")
    file = first.evaluation.suites[1].file or ""
    tree = await object_store.fetch_tree(file, tmp_path / "fetched")
    assert (tree / "items.jsonl").read_text() == "{}\n"
    assert first.evaluation.suites[0] == spec.evaluation.suites[0]
    (tmp_path / "mine.jsonl").write_text('{"more": 1}\n')
    assert (await attach(object_store, spec, tmp_path)).evaluation.suites[1].file != file


async def test_what_is_not_there_is_named(object_store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such directory of documents"):
        await attach(object_store, task(documents="./docs"), tmp_path)
    missing = task(suites=[{"name": "mine", "kind": "items", "file": "mine.jsonl"}])
    with pytest.raises(InvalidInput, match=r"mine\.jsonl: cannot be read"):
        await attach(object_store, missing, tmp_path)
