"""A teacher behind a real endpoint writes, checks drop what is no use, and only what a person approved trains."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from libs.contracts.errors import FailedPrecondition, InvalidInput, Unavailable
from libs.contracts.stubs.pawl.curation.v1 import review_pb2 as pb
from libs.contracts.task import JudgeSpec
from services.curation.clients.endpoint import judge
from services.curation.domain.synthesis import Seed, candidates, prompt, weakest
from services.curation.tests.conftest import House, spec_of, tickets

SEED = Seed("row-1", "g:1", "where is my parcel", "at the harbour", "c1")


class Teacher:
    """An endpoint as OpenAI's: `answer` makes the reply, `failures` are sent before it."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.failures: list[int] = []
        self.text = "[]"
        teacher = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                teacher.asked.append({**body, "key": self.headers["authorization"]})
                status = teacher.failures.pop(0) if teacher.failures else 200
                reply = {"choices": [{"message": {"role": "assistant", "content": teacher.reply(body)}}]}
                data = json.dumps(reply if status == 200 else {"error": "no"}).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def reply(self, body: dict[str, Any]) -> str:
        return self.text


@pytest.fixture
def teacher() -> Iterator[Teacher]:
    made = Teacher()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def test_a_reply_is_read_strictly_and_what_is_no_example_is_counted() -> None:
    reply = 'Here: [{"input": "a b", "output": "c"}, {"input": "", "output": "x"}, 7, {"input": "q"}]'
    given = {"model": "m", "method": "evolve", "category": "c1", "asked": "sha256:1"}
    found, broken = candidates(reply, spec_of(), [SEED], **given)
    assert ([(each.input, each.answer, each.category) for each in found], broken) == ([("a b", "c", "c1")], 3)
    assert json.loads(found[0].lineage.as_json())["seeds"] == ["row-1"]
    assert candidates("no list", spec_of(), [SEED], **given) == ([], 1)


def test_the_prompt_tells_schema_category_and_method() -> None:
    spec = spec_of(output={"format": "json", "schema": {"type": "object"}}, system="be brief")
    told = "\n".join(each["content"] for each in prompt(spec, [SEED], "evolve", "c1", 3))
    assert "schema" in told
    assert "be brief" in told
    assert "Rewrite this example into 3 harder ones of the category 'c1'" in told
    assert "where is my parcel" in told


async def test_a_structured_teacher_is_held_to_the_schema_of_the_answers(house: House, teacher: Teacher) -> None:
    answer = {"type": "object", "properties": {"team": {"enum": ["a", "b"]}}, "required": ["team"]}
    synthesis = {"url": teacher.url, "model": "small", "per_call": 1, "structured": True, "max_characters": 99}
    policy: dict[str, Any] = {"data": {"curation": {"synthesis": synthesis}}}
    await house.apply(output={"format": "json", "schema": answer}, **policy)
    await house.built(tickets(80), **policy)
    teacher.text = json.dumps({"examples": [{"input": "who paints the old theatre at night", "output": {"team": "a"}}]})
    assert (await house.synthesis.write("default", "triage", 1, "")).queued == 1
    (asked,) = teacher.asked
    told = asked["response_format"]["json_schema"]
    listed = told["schema"]["properties"]["examples"]
    assert (told["strict"], listed["minItems"], listed["items"]["properties"]["output"]) == (True, 1, answer)
    assert listed["items"]["properties"]["input"]["maxLength"] == 99


def test_the_weakest_categories_come_first() -> None:
    assert weakest({"a": 9, "b": 2, "c": 5}, {"d": 3}) == ["d", "b", "c", "a"]


async def test_approved_candidates_alone_enter_the_next_version_with_their_lineage(
    house: House, teacher: Teacher
) -> None:
    synthesis = {"url": teacher.url, "model": "big", "evolve": 0.5, "per_call": 4}
    policy: dict[str, Any] = {"data": {"curation": {"synthesis": synthesis}}}
    rows = tickets(160)
    await house.apply()
    with pytest.raises(FailedPrecondition, match="names no teacher"):
        await house.synthesis.write("default", "triage", 8, "")
    await house.apply(revision=2, **policy)
    await house.built(rows, **policy)
    teacher.text = json.dumps(
        [
            {"input": "a purple elephant stands on the stage of the old theatre", "output": "answer 1"},
            {"input": "green camels sing in the window of the flower shop", "output": "answer 2"},
            {"input": rows[0].input, "output": "answer 0"},
            {"input": "tell me a secret of the house", "output": ""},
        ]
    )
    teacher.failures = [503]
    done = await house.reviews.Synthesise(pb.SynthesiseRequest(task="triage", count=8, category="c1", by="ann"), None)
    assert (done.calls, done.queued, dict(done.categories)) == (2, 2, {"c1": 2})
    assert done.dropped["not_an_example"] == 2
    assert sum(done.dropped[name] for name in ("like_a_row", "like_a_held_out_item")) == 1
    assert {each["key"] for each in teacher.asked} == {"Bearer teacher-key"}
    waiting = (await house.reviews.ListReview(pb.ListReviewRequest(task="triage", kind="synthetic"), None)).items
    good = next(each for each in waiting if "elephant" in each.input)
    await house.reviews.Decide(
        pb.DecideRequest(task="triage", item_id=good.item_id, state="edited", by="ann", answer="answer 3"), None
    )
    second = await house.built([], 2, **policy)
    manifest = await house.objects.get_manifest(second.digest)
    lines = [
        json.loads(text) for text in (await house.objects.get_bytes(manifest.files["train.jsonl"].digest)).splitlines()
    ]
    (made,) = [each for each in lines if each.get("synthetic")]
    assert made["messages"][-1]["content"] == "answer 3"
    assert (made["lineage"]["model"], made["source"]) == ("big", "synthetic:big")
    assert not any("camel" in json.dumps(each) for each in lines)


async def test_a_judge_that_says_nothing_scores_nothing_and_one_that_is_away_is_transient(
    house: House, teacher: Teacher
) -> None:
    policy = JudgeSpec(url=teacher.url, model="j")
    asked = [{"key": "k", "question": "q", "answer": "a"}]
    teacher.text = '{"score": 4}'
    assert await judge(house.chat, policy, asked) == {"k": 4}
    teacher.text = "lovely"
    assert await judge(house.chat, policy, asked) == {"k": 0}
    teacher.failures = [503] * 4
    with pytest.raises(Unavailable, match="503"):
        await judge(house.chat, policy, asked)
    teacher.failures = [401]
    with pytest.raises(FailedPrecondition, match="refuses"):
        await judge(house.chat, policy, asked)
    with pytest.raises(InvalidInput, match="1 to 1000"):
        await house.synthesis.write("default", "triage", 0, "")


async def test_a_build_asks_its_judge_once_and_keeps_what_it_said(house: House, teacher: Teacher) -> None:
    def reply(body: dict[str, Any]) -> str:
        return json.dumps({"score": 1 if '"answer 1"' in body["messages"][1]["content"] else 5})

    teacher.reply = reply  # type: ignore[method-assign]
    policy: dict[str, Any] = {"data": {"curation": {"judge": {"url": teacher.url, "model": "j", "at_least": 3}}}}
    first = await house.built(tickets(80), **policy)
    assert first.removed["judged_low"] == 20
    asked = len(teacher.asked)
    second = await house.built([], 2, **policy)
    assert (second.removed, len(teacher.asked)) == (first.removed, asked)
