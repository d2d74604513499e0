"""A teacher behind an endpoint: asked once, only its whole answers are learned, its key goes nowhere else."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from libs.contracts.commands import TrainModel
from libs.contracts.errors import FailedPrecondition, Unavailable
from libs.contracts.ids import digest_bytes
from libs.contracts.task import TaskSpec, recipe_of
from services.trainer.clients.teacher import Teacher
from services.trainer.tests.support import write_dataset

URL = "https://teacher.test/v1"


class Endpoint:
    """Answers what `say` gives for the last message, and keeps what it was asked."""

    def __init__(self, say: Any) -> None:
        self.asked: list[httpx.Request] = []
        self._say = say

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        found = self._say(json.loads(request.content)["messages"][-1]["content"], len(self.asked))
        if isinstance(found, int):
            return httpx.Response(found, text="no")
        text, finish = found
        return httpx.Response(200, json={"choices": [{"message": {"content": text}, "finish_reason": finish}]})


def command(**more: Any) -> TrainModel:
    recipe = recipe_of(method="distil-sequence", teacher={"endpoint": URL, "model": "big"}, **more)
    return TrainModel(
        tenant="default", task="sums", turn_id="turn-1", spec=TaskSpec(task="sums", base="base", recipe=recipe),
        run_id="run-1", dataset_digest=digest_bytes(b"data"), base_digest=digest_bytes(b"base"),
    )  # fmt: skip


async def taught(home: Path, endpoint: Endpoint, **more: Any) -> list[dict[str, Any]]:
    dataset = home / "data"
    if not dataset.exists():
        write_dataset(dataset, 12)
    teacher = Teacher(
        home / "kept", {URL: "secret", "https://other.test/v1": "x"}, transport=httpx.MockTransport(endpoint)
    )
    made = await teacher.teach(command(**more), dataset, home / "taught")
    return [json.loads(line) for line in (made.dataset / "train.jsonl").read_text().splitlines()]


async def test_rows_get_the_teachers_answers_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    endpoint = Endpoint(lambda asked, _: (f"<{asked}>", "stop"))
    rows = await taught(tmp_path, endpoint)
    assert len(rows) == 12
    assert all(row["messages"][-1]["content"] == f"<{row['messages'][0]['content']}>" for row in rows)
    assert {request.headers["authorization"] for request in endpoint.asked} == {"Bearer secret"}
    assert json.loads(endpoint.asked[0].content)["temperature"] == 0.0
    assert await taught(tmp_path, endpoint) == rows
    assert len(endpoint.asked) == 12


async def test_an_answer_that_was_cut_off_is_not_learned(tmp_path: Path) -> None:
    rows = await taught(tmp_path, Endpoint(lambda asked, n: ("half", "length") if n % 4 == 0 else ("whole", "stop")))
    assert len(rows) == 9
    with pytest.raises(FailedPrecondition, match="max_tokens"):
        await taught(tmp_path / "b", Endpoint(lambda *_: ("half", "length")))


async def test_a_share_of_the_rows_keeps_its_own_answer(tmp_path: Path) -> None:
    endpoint = Endpoint(lambda *_: ("taught", "stop"))
    rows = await taught(tmp_path, endpoint, gold_share=0.5)
    own = [row for row in rows if row["messages"][-1]["content"] != "taught"]
    assert 2 <= len(own) <= 10
    assert len(endpoint.asked) == 12 - len(own)


async def test_a_teacher_that_refuses_ends_the_run_with_its_words_and_one_that_is_away_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def soon(_: float) -> None:
        """No waiting here."""

    monkeypatch.setattr("services.trainer.clients.teacher.asyncio.sleep", soon)
    with pytest.raises(FailedPrecondition, match="status 401"):
        await taught(tmp_path / "a", Endpoint(lambda *_: 401))
    with pytest.raises(Unavailable, match="status 503"):
        await taught(tmp_path / "b", Endpoint(lambda *_: 503))
    rows = await taught(tmp_path / "c", Endpoint(lambda _, n: 503 if n <= 3 else ("late", "stop")))
    assert len(rows) == 12
