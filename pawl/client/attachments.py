"""Files that a task file names beside itself: uploaded, and known by their digest from then on."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from libs.artifacts import ObjectStore
from libs.contracts.errors import InvalidInput
from libs.contracts.task import TaskSpec
from libs.contracts.task.evaluation import is_digest

ITEMS_FILE = "items.jsonl"


async def attach(store: ObjectStore, spec: TaskSpec, beside: Path) -> TaskSpec:
    """The task with its documents and suite files uploaded and named by digest."""
    evaluation = spec.evaluation
    changes: dict[str, object] = {}
    if evaluation.documents is not None and not is_digest(evaluation.documents):
        directory = (beside / evaluation.documents).resolve()
        if not directory.is_dir():
            raise InvalidInput(f"{directory}: no such directory of documents", field="evaluation.documents")
        changes["documents"] = await store.put_tree(directory, kind="documents", metadata={})
    suites = []
    for suite in evaluation.suites:
        if suite.file is None or is_digest(suite.file):
            suites.append(suite)
        else:
            place = (beside / suite.file).resolve()
            whole = suite.kind == "harness"
            digest = await (store.put_tree(place, kind="harness", metadata={}) if whole else put_items(store, place))
            suites.append(suite.model_copy(update={"file": digest}))
    if tuple(suites) != evaluation.suites:
        changes["suites"] = tuple(suites)
    if not changes:
        return spec
    return spec.model_copy(update={"evaluation": evaluation.model_copy(update=changes)})


async def put_items(store: ObjectStore, file: Path) -> str:
    """Upload a file of items as a suite; returns its digest. The evaluator names the line that is wrong."""
    with tempfile.TemporaryDirectory() as directory:
        await asyncio.to_thread(_copy, file, Path(directory))
        return await store.put_tree(Path(directory), kind="suite", metadata={})


def _copy(file: Path, directory: Path) -> None:
    try:
        shutil.copyfile(file, directory / ITEMS_FILE)
    except OSError as error:
        raise InvalidInput(f"{file}: cannot be read: {error.strerror}", field="file") from error
