"""Whichever door a row comes in by, it stands in the same dataset; whichever it is refused at, the refusal names it."""

import asyncio
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import nats
import pytest

from libs.contracts.errors import InvalidInput
from libs.contracts.stubs.pawl.ingestion.v1 import ingestion_pb2 as pb
from libs.contracts.stubs.pawl.ingestion.v1.ingestion_pb2_grpc import IngestionServiceStub
from pawl.client import Connection, Pawl
from tests.e2e.stack import EXAMPLE, RunningStack, until

TASK = "data-doors"
DOORS = ("terminal", "stream", "upload", "web", "rpc", "broker")
EACH = 8
_TOPICS = {
    "terminal": "printer paper jam", "stream": "router blinks amber", "upload": "invoice shows wrong total",
    "web": "password reset mail missing", "rpc": "screen flickers at night", "broker": "parcel left at neighbour",
}  # fmt: skip
_PLACES = ("Oslo", "Lyon", "Graz", "Cork", "Bonn", "Riga", "Porto", "Turku")
TASK_FILE = f"""
task: {TASK}
base: {EXAMPLE / "base"}
data:
  min_train_rows: 1
  duplicates: {{near: false}}
  split: {{train: 0.7, validation: 0.05, test: 0.25}}
recipe: {{method: lora, max_steps: 1}}
triggers: {{on_import: false}}
"""


def said(door: str) -> dict[str, str]:
    """What comes in by a door: answers by question."""
    return {f"{_TOPICS[door]} in {place}": f"{door} answer for {place}" for place in _PLACES[:EACH]}


def corrections(door: str) -> list[dict[str, Any]]:
    """The same as feedback: each answer is what somebody put in the place of a wrong one."""
    return [
        {"id": f"{door}-{at}", "source": "desk", "kind": "correction", "input": asked, "output": "wrong",
         "correction": answer}
        for at, (asked, answer) in enumerate(said(door).items())
    ]  # fmt: skip


WRONG: dict[str, Any] = {"id": "bad", "source": "desk", "kind": "rating", "rating": 9, "scale": 5, "input": "x"}


@pytest.fixture(scope="module")
def task(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("doors") / "task.yaml"
    file.write_text(TASK_FILE)
    stack.pawl("apply", str(file))
    return TASK


@pytest.fixture(scope="module")
def key(stack: RunningStack) -> dict[str, str]:
    return {"authorization": f"Bearer {stack.status()['api_key']}"}


@pytest.fixture(scope="module")
def came_in(stack: RunningStack, task: str, key: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Rows by every door, one bad one at each; every door answers for itself."""
    endpoints = stack.status()["endpoints"]
    by_terminal(stack, task, tmp_path_factory.mktemp("files"))
    by_stream(endpoints["ingestion"], task)
    by_upload(endpoints["imports"], task, key)
    by_web(endpoints["http"], task, key)
    with stack.client() as pawl:
        by_rpc(pawl, task)
    asyncio.run(by_broker(stack, endpoints["nats"], task))
    return task


def by_terminal(stack: RunningStack, task: str, directory: Path) -> None:
    """JSON lines of chat messages, packed, by the command."""
    rows = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}
        for asked, answer in said("terminal").items()
    ]
    file = directory / "terminal.jsonl.gz"
    file.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in [*rows, {"messages": []}]).encode()))
    told = stack.pawl("import", str(file), "--task", task)
    assert f"(jsonl, openai-messages): {EACH + 1} rows, {EACH} accepted, 0 already known, 1 set aside" in told
    found = re.search(r"pawl quarantine (import-\S+)", told)
    assert found is not None
    (line,) = [json.loads(each) for each in stack.pawl("quarantine", found[1]).splitlines()]
    assert (line["row"], line["field"], json.loads(line["raw"])) == (EACH + 1, "messages", {"messages": []})


def by_stream(address: str, task: str) -> None:
    """CSV with columns of its own, in chunks that end in the middle of a row, by the bare stub."""
    lines = ["question,reply", *(f"{asked},{answer}" for asked, answer in said("stream").items()), "half a row"]
    data = "\n".join(lines).encode()

    def parts() -> Iterator[pb.ImportFileRequest]:
        columns = {"input": "question", "output": "reply"}
        yield pb.ImportFileRequest(
            header=pb.ImportHeader(task=task, name="stream.csv", source="stream", columns=columns)
        )
        for at in range(0, len(data), 7):
            yield pb.ImportFileRequest(chunk=data[at : at + 7])

    with grpc.insecure_channel(address) as channel:
        stub = IngestionServiceStub(channel)
        done = getattr(stub.ImportFile(parts(), timeout=30), "import")
        assert (done.format, done.shape, done.accepted, done.quarantined) == ("csv", "columns", EACH, 1)
        assert [(row.row, row.reason) for row in done.quarantine] == [(EACH + 2, "1 fields where the header names 2")]
        asked = pb.DownloadQuarantineRequest(import_id=done.import_id)
        aside = b"".join(part.chunk for part in stub.DownloadQuarantine(asked, timeout=30))
        assert json.loads(aside)["raw"] == "half a row"


def by_upload(address: str, task: str, key: dict[str, str]) -> None:
    """A JSON array of prompts and completions, as the body of a request."""
    rows: list[dict[str, Any]] = [{"prompt": asked, "completion": answer} for asked, answer in said("upload").items()]
    body = json.dumps([*rows, {"prompt": "no answer", "completion": None}]).encode()
    asked = {"task": task, "name": "upload.json"}
    answer = httpx.post(f"{address}/imports", params=asked, content=body, headers=key, timeout=30)
    told = answer.json()
    assert (answer.status_code, told["shape"], told["accepted"]) == (201, "trl-prompt-completion", EACH)
    assert [(row["row"], row["field"]) for row in told["quarantine"]] == [(EACH + 1, "completion")]
    aside = httpx.get(f"{address}/imports/{told['import_id']}/quarantine", headers=key, timeout=30)
    assert json.loads(json.loads(aside.text)["raw"])["prompt"] == "no answer"


def by_web(address: str, task: str, key: dict[str, str]) -> None:
    """Feedback by HTTP: a batch with a wrong event is refused whole and the event named, one without is taken."""
    events = corrections("web")
    url, asked = f"{address}/feedback", {"task": task}
    refused = httpx.post(url, params=asked, json=[*events, WRONG], headers=key, timeout=30)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, f"events.{EACH}.rating")
    taken = httpx.post(url, params=asked, json=events, headers=key, timeout=30)
    assert (taken.status_code, taken.json()["accepted"]) == (202, EACH)


def by_rpc(pawl: Pawl, task: str) -> None:
    """The same by gRPC."""
    with pytest.raises(InvalidInput) as refused:
        pawl.feedback(task, [*corrections("rpc"), WRONG])
    assert refused.value.field == f"events_json.{EACH}.rating"
    assert len(pawl.feedback(task, corrections("rpc"))) == EACH


async def by_broker(stack: RunningStack, address: str, task: str) -> None:
    """Plain JSON by any NATS client, beside what came in by HTTP once more; nobody answers, so a dead letter does."""
    client = await nats.connect(address)
    for event in [*corrections("broker"), WRONG, *corrections("web")]:
        await client.jetstream().publish(f"feedback.default.{task}", json.dumps(event).encode())
    await client.close()
    with stack.client() as pawl:
        await asyncio.to_thread(until, lambda: pawl.intake(task).rejected == 1, 20, "refused")
        await asyncio.to_thread(until, lambda: pawl.intake(task).duplicates == EACH, 20, "known again")
    letters = [line for line in stack.pawl("dead", "list").splitlines() if f"feedback.default.{task}" in line]
    assert len(letters) == 1
    assert "rating: " in letters[0]


def test_the_rows_of_every_door_stand_in_one_dataset(stack: RunningStack, came_in: str, tmp_path: Path) -> None:
    rows = len(DOORS) * EACH
    with stack.client() as pawl:
        intake = until(lambda: (it := pawl.intake(came_in)).kinds.get("correction") == 3 * EACH and it, 20, "counted")
        assert (intake.kinds["example"], intake.waiting_for_inference) == (3 * EACH, 0)
        until(lambda: _built(pawl, came_in, intake.watermark), 45, "a dataset of all rows")
        dataset, report = pawl.dataset(came_in)
    asyncio.run(Connection.find(stack.home).objects().fetch_tree(dataset.digest, tmp_path / "dataset"))
    lines = [
        json.loads(line)
        for split in ("train", "validation", "test")
        for line in (tmp_path / "dataset" / f"{split}.jsonl").read_text().splitlines()
    ]
    learnt = {line["messages"][-2]["content"]: line["messages"][-1]["content"] for line in lines}
    withheld = report["rows"]["removed"]
    assert learnt.items() <= {asked: answer for door in DOORS for asked, answer in said(door).items()}.items()
    assert (len(learnt), len(lines), report["rows"]["in"]) == (rows - withheld, rows - withheld, rows)
    assert {line["source"] for line in lines} == {"terminal.jsonl", "stream", "import", "desk"}
    assert set(report["removed"]) <= {"withheld_near"}, report["removed"]
    assert {next(door for door in DOORS if door in answer) for answer in learnt.values()} == set(DOORS)


def test_a_file_that_came_in_by_one_door_is_known_at_the_others(
    stack: RunningStack, came_in: str, key: dict[str, str], tmp_path: Path
) -> None:
    rows = b"".join(
        json.dumps({"prompt": f"the same at every door {at}", "completion": "yes"}).encode() + b"\n" for at in range(3)
    )
    file = tmp_path / "twice.jsonl"
    file.write_bytes(rows)
    assert "3 accepted, 0 already known" in stack.pawl("import", str(file), "--task", came_in)
    url = f"{stack.status()['endpoints']['imports']}/imports"
    told = httpx.post(
        url, params={"task": came_in, "name": "twice.jsonl"}, content=rows, headers=key, timeout=30
    ).json()
    assert (told["accepted"], told["already_seen"]) == (0, 3)


def _built(pawl: Pawl, task: str, watermark: int) -> bool:
    """Whether there is a dataset up to the watermark; opens a turn for it, and ends one that has served its purpose."""
    turns = pawl.turns(task)
    if not turns:
        pawl.start_turn(task, by="test")
        return False
    built = [each for each in pawl.datasets(task) if each.watermark >= watermark]
    if turns[-1].state not in ("cancelled", "failed", "refused") and pawl.datasets(task):
        pawl.steer(turns[-1].turn_id, "cancel", by="test", reason="the dataset is all that was wanted")
    elif not built and turns[-1].closed_at.seconds:
        pawl.start_turn(task, by="test")
    return bool(built)
