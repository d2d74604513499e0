"""Suites that come from outside, wired through a whole evaluation: lm-eval's tasks, the mix of production's traffic."""

from pathlib import Path

from libs.artifacts import ObjectStore
from libs.contracts.estimates import Verdict
from libs.eventing.connection import NatsLink
from services.evaluator.tests.conftest import House
from services.evaluator.tests.harness import needs_harness, write_capitals
from services.evaluator.tests.support import Facts, FakeGateway, command, put_suite, right, send, wrong
from services.evaluator.tests.test_arms import document_of, finished, with_evaluation


@needs_harness
async def test_tasks_of_lm_eval_are_asked_through_serving_and_gate_what_was_forgotten(
    house: House, link: NatsLink, object_store: ObjectStore, gateway: FakeGateway, facts: Facts, tmp_path: Path
) -> None:
    def rule(version: int, messages: list[str]) -> str:
        question = messages[-1]
        if question.startswith("Capital of "):
            # The base knows them all; the fine-tune forgot every second one.
            number = int(question.removeprefix("Capital of c").rstrip("?"))
            return f"Town{number}" if version == 0 or number % 2 else "Nowhere"
        return (right if version else wrong)(int(question.split()[1]))

    gateway.rule = rule
    await house.start()
    tree = await object_store.put_tree(write_capitals(tmp_path / "tasks", 80), kind="harness", metadata={})
    task = with_evaluation(
        suites=[{"kind": "harness", "file": tree, "tasks": ["capitals"], "items": 80}],
        gates=[
            {"name": "better-than-base", "kind": "superiority", "against": "base"},
            {
                "name": "nothing-forgotten", "kind": "non_inferiority", "against": "base", "margin": 0.05,
                "suite": "harness", "metric": "harness",
            },
        ],
    )  # fmt: skip
    await send(link, command(await put_suite(object_store, tmp_path / "suite"), spec=task))
    report = await finished(facts)
    assert {gate.gate: gate.verdict for gate in report.gates} == {
        "better-than-base": Verdict.PASS, "nothing-forgotten": Verdict.FAIL
    }  # fmt: skip
    suite = (await document_of(object_store, report))["suites"]["harness"]
    assert (suite["arms"]["base"]["harness"]["value"], suite["arms"]["fine_tuned"]["harness"]["value"]) == (1.0, 0.5)
    assert len(suite["items"]) == 80


async def test_a_weighted_gate_takes_the_mix_of_production_where_the_task_declares_none(
    house: House, link: NatsLink, object_store: ObjectStore, gateway: FakeGateway, facts: Facts, tmp_path: Path
) -> None:
    def rule(version: int, messages: list[str]) -> str:
        # The fine-tune is right on three categories and wrong on the one that production asks for.
        number = int(messages[-1].split()[1])
        return right(number) if version and number % 4 else wrong(number)

    gateway.rule = rule
    house.mix = {"c0": 0.94, "c1": 0.01, "c2": 0.01, "c3": 0.01, "new": 0.03}
    await house.start()
    gates = [
        {"name": "as-the-suite-is", "kind": "superiority", "against": "base", "margin": 0.3},
        {"name": "as-traffic-is", "kind": "superiority", "against": "base", "margin": 0.3, "weighted": True},
    ]
    await send(link, command(await put_suite(object_store, tmp_path / "suite", 400), spec=with_evaluation(gates=gates)))
    report = await finished(facts)
    document = await document_of(object_store, report)
    assert {gate.gate: gate.verdict for gate in report.gates} == {
        "as-the-suite-is": Verdict.PASS, "as-traffic-is": Verdict.FAIL
    }  # fmt: skip
    assert document["traffic"]["source"] == "as production's answers name it, last 7 days"
    assert document["traffic"]["uncovered"] == ["new"]
