"""Arms beside the versions: prompts, retrieval, models outside, judges; and reports asked for by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from libs.artifacts import ObjectStore
from libs.contracts.errors import FailedPrecondition
from libs.contracts.estimates import Verdict
from libs.contracts.events import EvaluationFailed, ReportCompleted
from libs.contracts.task import EndpointSpec, TaskSpec
from libs.eventing.connection import NatsLink
from libs.testing.wait import eventually
from services.evaluator.clients.outside import OutsideModel
from services.evaluator.tests.conftest import Evaluator, House
from services.evaluator.tests.outside import OutsideServer
from services.evaluator.tests.support import Facts, FakeGateway, command, label, put_suite, right, send, spec, wrong


async def finished(facts: Facts, report_id: str = "report-1") -> Any:
    async def look() -> Any:
        for failed in await facts.of(EvaluationFailed):
            if failed.data.report_id == report_id:
                raise RuntimeError(failed.data.reason)
        return next((each.data for each in await facts.of(ReportCompleted) if each.data.report_id == report_id), None)

    return await eventually(look, 30)


async def failure(facts: Facts) -> str:
    async def look() -> Any:
        found = await facts.of(EvaluationFailed)
        return found[0].data.reason if found else None

    return str(await eventually(look, 20))


def with_evaluation(**changes: Any) -> TaskSpec:
    gates = [{"name": "better-than-base", "kind": "superiority", "against": "base"}]
    return spec(evaluation={"concurrency": 8, "repeat_items": 0, "gates": gates, **changes})


async def put_dataset(store: ObjectStore, directory: Path) -> str:
    directory.mkdir()
    rows = [
        {"messages": [{"role": "user", "content": f"ticket {n} old"}, {"role": "assistant", "content": label(n)}]}
        for n in range(8)
    ]
    (directory / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return await store.put_tree(directory, kind="dataset", metadata={})


async def document_of(store: ObjectStore, report: ReportCompleted) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await store.get_bytes(report.report_digest))
    return found


async def test_prompt_and_retrieval_arms_answer_the_same_items_and_the_simplest_good_one_is_advised(
    house: House, link: NatsLink, object_store: ObjectStore, gateway: FakeGateway, facts: Facts, tmp_path: Path
) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "manual.md").write_text("A ticket is sorted by its number.\n\nNothing about lunch.")
    asked: list[list[str]] = []

    def rule(version: int, messages: list[str]) -> str:
        asked.append(messages)
        number = int(messages[-1].split()[1])
        helped = any("sorted by its number" in text for text in messages[:-1]) or len(messages) > 3
        return right(number) if version == 1 or helped else wrong(number)

    gateway.rule = rule
    await house.start()
    task = with_evaluation(
        arms=[
            "base", "fine_tuned", "stable",
            {"name": "prompt", "kind": "prompt", "shots": 2, "system": "Sort it."},
            {"name": "rag", "kind": "retrieval", "passages": 1},
            {"name": "tuned-rag", "kind": "retrieval", "asks": "fine_tuned", "passages": 1},
        ],
        documents=await object_store.put_tree(documents, kind="documents", metadata={}),
        prices={"base": {"input": 1.0, "output": 1.0}},
        suite={"max_items": 400},
        close_enough=0.1,
    )  # fmt: skip
    dataset = await put_dataset(object_store, tmp_path / "dataset")
    asking = command(await put_suite(object_store, tmp_path / "suite"), spec=task)
    await send(link, asking.model_copy(update={"dataset_digest": dataset}))
    document = await document_of(object_store, await finished(facts))
    values = {arm: metrics["exact_match"]["value"] for arm, metrics in document["arms"].items()}
    assert values == {"base": 0.0, "fine_tuned": 1.0, "stable": 0.0, "prompt": 1.0, "rag": 1.0, "tuned-rag": 1.0}
    assert document["recommendation"]["arm"] == "prompt"
    assert document["kinds"]["tuned-rag"] == "retrieval/fine_tuned"
    assert document["contenders"]["prompt"]["recipe"] != document["contenders"]["rag"]["recipe"]
    assert document["costs"]["prompt"]["prompt_tokens"] > document["costs"]["base"]["prompt_tokens"]
    shown = next(messages for messages in asked if messages[0] == "Sort it.")
    assert len(shown) == 6
    assert shown[1].startswith("ticket")


async def test_what_an_earlier_report_generated_is_not_generated_again(
    evaluator: Evaluator, link: NatsLink, object_store: ObjectStore, gateway: FakeGateway, facts: Facts, tmp_path: Path
) -> None:
    suite = await put_suite(object_store, tmp_path / "suite")
    await send(link, command(suite, spec=with_evaluation(repeat_items=10)))
    await finished(facts)
    # Sixty items by two versions (base and stable are one here), and ten of them by each again.
    assert sum(gateway.calls.values()) == 140
    await send(link, command(suite, "report-2", spec=with_evaluation(repeat_items=10)))
    document = await document_of(object_store, await finished(facts, "report-2"))
    # Only the noise floor asks again: it must not find its own first answers.
    assert sum(gateway.calls.values()) == 160
    assert document["costs"]["base"]["reused"] == 60
    assert document["items"][0]["arms"]["base"]["reused_from"] == "report-1"
    assert document["noise"]["items"] == 10
    assert set(document["noise"]["arms"]) == {"fine_tuned", "base", "stable"}
    assert document["noise"]["floors"]["exact_match"] == 0.0
    assert await evaluator.answers.forget("default", "triage", ["item-1"]) > 0
    await send(link, command(suite, "report-3", spec=with_evaluation()))
    await finished(facts, "report-3")
    assert sum(gateway.calls.values()) == 162


async def test_made_suites_are_measured_and_gated_beside_the_tasks_own(
    evaluator: Evaluator, link: NatsLink, object_store: ObjectStore, gateway: FakeGateway, facts: Facts, tmp_path: Path
) -> None:
    def rule(version: int, messages: list[str]) -> str:
        question = messages[-1]
        if version == 0:
            return question.split(": ", 1)[-1]
        number = question.split()[1:2] if question.startswith("ticket ") else []
        return right(int(number[0])) if number and number[0].isdecimal() else "{}"

    gateway.rule = rule
    task = with_evaluation(
        suites=["safety", {"name": "general", "kind": "general", "items": 90}, {"kind": "edge", "items": 110}],
        gates=[
            {"name": "better-than-base", "kind": "superiority", "against": "base"},
            {
                "name": "nothing-forgotten",
                "kind": "non_inferiority",
                "against": "base",
                "margin": 0.05,
                "suite": "general",
            },
        ],
    )  # fmt: skip
    await send(link, command(await put_suite(object_store, tmp_path / "suite"), spec=task))
    report = await finished(facts)
    document = await document_of(object_store, report)
    assert report.verdict is Verdict.FAIL
    assert {gate.gate: gate.verdict for gate in report.gates} == {
        "better-than-base": Verdict.PASS, "nothing-forgotten": Verdict.FAIL
    }  # fmt: skip
    assert set(document["suites"]) == {"safety", "general", "edge"}
    assert document["suites"]["safety"]["arms"]["fine_tuned"]["refusal"]["value"] == 0.5
    assert set(document["suites"]["general"]["slices"]) == {"copy", "lookup", "form"}
    edge = document["suites"]["edge"]
    assert edge["arms"]["fine_tuned"]["exact_match"]["n"] == 100
    assert edge["arms"]["fine_tuned"]["json_valid"]["n"] == 110
    assert edge["slices"]["format"]["fine_tuned"]["exact_match"]["value"] == 1.0


async def test_an_outside_model_is_an_arm_and_its_key_is_nowhere(
    house: House, link: NatsLink, object_store: ObjectStore, facts: Facts, tmp_path: Path
) -> None:
    with OutsideServer(lambda asked: right(int(asked["messages"][-1]["content"].split()[1]))) as outside:
        house.keys["GPT_KEY"] = "sk-very-secret"
        await house.start()
        endpoint = {"url": outside.url, "model": "gpt", "key_env": "GPT_KEY"}
        task = with_evaluation(arms=["base", "fine_tuned", {"name": "gpt", "kind": "external", "endpoint": endpoint}])
        await send(link, command(await put_suite(object_store, tmp_path / "suite"), spec=task))
        document = await document_of(object_store, await finished(facts))
    assert len(outside.requests) == 60
    assert all(each["key"] == "Bearer sk-very-secret" and each["temperature"] == 0 for each in outside.requests)
    assert document["arms"]["gpt"]["exact_match"]["value"] == 1.0
    assert document["contenders"]["gpt"]["engine"] == "outside:127.0.0.1/gpt"
    assert document["costs"]["gpt"]["prompt_tokens"] == 7
    assert "sk-very-secret" not in json.dumps(document)
    assert b"sk-very-secret" not in (tmp_path / "state.db").read_bytes()


async def test_a_missing_key_or_one_refused_ends_the_evaluation_by_name(
    house: House, link: NatsLink, object_store: ObjectStore, gateway: FakeGateway, facts: Facts, tmp_path: Path
) -> None:
    await house.start()
    endpoint = {"url": "http://127.0.0.1:9/v1", "model": "gpt", "key_env": "GPT_KEY"}
    task = with_evaluation(arms=["base", "fine_tuned", {"name": "gpt", "kind": "external", "endpoint": endpoint}])
    await send(link, command(await put_suite(object_store, tmp_path / "suite"), spec=task))
    assert "the evaluator's environment has no GPT_KEY" in await failure(facts)
    assert sum(gateway.calls.values()) == 0
    with OutsideServer(lambda _: 401) as outside:
        model = OutsideModel(EndpointSpec(url=outside.url, model="m", key_env="K"), {"K": "wrong"}.get)
        with pytest.raises(Exception, match=r"refused the key \(K\) with 401") as caught:
            await model.chat((), max_tokens=1, request_id="r")
        assert "wrong" not in str(caught.value)
        await model.close()


async def test_judges_and_embeddings_score_and_fail_for_one_item_alone(
    house: House, link: NatsLink, object_store: ObjectStore, facts: Facts, tmp_path: Path
) -> None:
    heard: list[object] = []

    def judge(asked: dict[str, Any]) -> str | int:
        if "input" in asked:
            heard.append([json.loads(text) for text in asked["input"]])
            return 429 if len(heard) == 1 else 400 if heard[-1] == [json.loads(label(3))] * 2 else ""
        text = asked["messages"][-1]["content"]
        if "ticket 7\n" in text:
            return "I would rather not say"
        schema = asked["response_format"]["json_schema"]["schema"]

        def said(what: str) -> Any:
            return json.loads(text.split(f"<<<{what} ")[1].split(">>>\n", 1)[1].split("\n<<<")[0])

        wanted = said("RIGHT ANSWER")
        if "grade" in schema["properties"]:
            return json.dumps({"reason": "r", "grade": 5 if said("ANSWER") == wanted else 1})
        first, second = said("FIRST ANSWER"), said("SECOND ANSWER")
        better = "tie" if first == second else ("first" if first == wanted else "second")
        return json.dumps({"reason": "r", "better": better})

    with OutsideServer(judge) as outside:
        await house.start()
        endpoint = {"url": outside.url, "model": "judge"}
        task = with_evaluation(
            arms=["base", "fine_tuned"],
            gates=[{"name": "polite", "kind": "superiority", "against": "base", "metric": "graded"}],
            metrics=[
                {"name": "graded", "kind": "judge", "rubric": "Is the category right?", "endpoint": endpoint},
                {
                    "name": "preferred", "kind": "judge_pairwise", "rubric": "Which is right?", "against": "base",
                    "endpoint": endpoint,
                },
                {"name": "near", "kind": "embedding", "endpoint": endpoint},
            ],
        )  # fmt: skip
        await send(link, command(await put_suite(object_store, tmp_path / "suite"), spec=task))
        document = await document_of(object_store, await finished(facts))
    arms = document["arms"]
    assert (arms["fine_tuned"]["graded"]["value"], arms["base"]["graded"]["value"]) == (1.0, 0.0)
    # However clear it looks, a judge that no expert calibrated decides nothing.
    assert document["gates"][0]["verdict"] == "inconclusive"
    assert "calibrates" in document["gates"][0]["reason"]
    assert (arms["fine_tuned"]["graded"]["n"], arms["fine_tuned"]["preferred"]["n"]) == (59, 59)
    assert arms["fine_tuned"]["preferred"]["value"] == 1.0
    assert arms["base"]["preferred"]["value"] == 0.5
    assert document["differences"]["base"]["preferred"]["value"] == pytest.approx(0.5)
    assert 0.8 < arms["base"]["near"]["value"] <= arms["fine_tuned"]["near"]["value"] == pytest.approx(1.0)
    # An endpoint that asks to slow down is asked again; texts it will not take cost no other its score.
    assert (arms["fine_tuned"]["near"]["n"], arms["base"]["near"]["n"]) == (45, 60)
    assert "answered 400" in document["items"][3]["arms"]["fine_tuned"]["unscored"]["near"]
    assert "no JSON" in document["items"][7]["arms"]["fine_tuned"]["unscored"]["graded"]
    shown_first = [each for each in outside.requests if "FIRST ANSWER" in str(each.get("messages"))]
    assert len(shown_first) == 1 + 120  # one question of its own shows what the endpoint takes
    assert "order:both" in document["passport"]["metrics"]["preferred"]


@pytest.mark.parametrize("taken", ["json_object", "text"])
async def test_a_judge_whose_endpoint_takes_no_schema_is_asked_in_words_and_its_noise_is_known(
    house: House, link: NatsLink, object_store: ObjectStore, facts: Facts, tmp_path: Path, taken: str
) -> None:
    heard: dict[str, int] = {}

    def judge(asked: dict[str, Any]) -> str | int:
        form = asked.get("response_format", {"type": "text"})["type"]
        if form == "json_schema":
            return 400
        if form != taken:
            return "Gladly! The grade is 5."
        system, text = (message["content"] for message in asked["messages"])
        assert '"enum": [1, 2, 3, 4, 5]' in system
        heard[text] = heard.get(text, 0) + 1
        return json.dumps({"reason": "r", "grade": 5 if heard[text] == 1 else 4})

    with OutsideServer(judge) as outside:
        await house.start()
        endpoint = {"url": outside.url, "model": "judge"}
        task = with_evaluation(
            arms=["base", "fine_tuned"], repeat_items=8,
            metrics=[{"name": "graded", "kind": "judge", "rubric": "Is it right?", "endpoint": endpoint}],
        )  # fmt: skip
        await send(link, command(await put_suite(object_store, tmp_path / "suite"), spec=task))
        document = await document_of(object_store, await finished(facts))
    assert f"|held:{taken}|" in document["passport"]["metrics"]["graded"]
    assert document["arms"]["fine_tuned"]["graded"] == {"value": 1.0, "low": pytest.approx(0.94, abs=0.02), "high": 1.0,
                                                        "n": 60}  # fmt: skip
    # Asked a second time about the very same answers it grades otherwise: that much of a difference is chance.
    assert document["noise"]["changed_texts"] == 0
    assert document["noise"]["changed_scores"] == {"exact_match": 0, "json_valid": 0, "graded": 8}
    assert document["noise"]["floors"]["graded"] == pytest.approx(1.959964 * 0.25 / 60**0.5)
    assert document["noise"]["arms"]["base"]["floors"]["graded"] == pytest.approx(1.959964 * 0.25 / 60**0.5)
    # One look for each form, one question for each of 60 items by two arms, eight of each again.
    assert len(outside.requests) == (2 if taken == "json_object" else 3) + 120 + 16


async def test_a_task_that_cannot_be_evaluated_as_it_says_is_told_before_anything_is_generated(
    house: House, link: NatsLink, object_store: ObjectStore, gateway: FakeGateway, facts: Facts, tmp_path: Path
) -> None:
    await house.start()
    suite = await put_suite(object_store, tmp_path / "suite")
    task = with_evaluation(arms=["base", "fine_tuned", {"kind": "retrieval", "name": "rag"}], documents="./docs")
    await send(link, command(suite, spec=task))
    assert "apply the task with `pawl apply`" in await failure(facts)
    assert sum(gateway.calls.values()) == 0
    for change, message in (
        ({"arms": ["base", "fine_tuned", {"kind": "retrieval", "name": "rag"}]}, "needs 'documents'"),
        ({"gates": [{"name": "g", "kind": "superiority", "against": "gpt"}]}, "no arm 'gpt'; there are base"),
        ({"gates": [{"name": "g", "kind": "floor", "at_least": 0.5, "metric": "blue"}]}, "no metric 'blue'"),
        ({"gates": [{"name": "g", "kind": "floor", "at_least": 0.5, "suite": "edge"}]}, "no suite 'edge'"),
    ):
        with pytest.raises(ValueError, match=message):
            with_evaluation(**change)


def test_keys_are_named_and_never_written_in_a_task_file() -> None:
    with pytest.raises(ValueError, match="url"):
        EndpointSpec(url="https://user:pass@host/v1", model="m")
    with pytest.raises(FailedPrecondition, match="no K"):
        OutsideModel(EndpointSpec(url="https://host/v1", model="m", key_env="K"), lambda _: None)
