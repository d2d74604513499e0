"""Items that are answered by a call are asked with their tools, and a call is right by what it calls with."""

import json
from pathlib import Path
from typing import Any

from libs.artifacts import ObjectStore
from libs.contracts.estimates import Verdict
from libs.contracts.inference import Message, ToolCall
from libs.eventing.connection import NatsLink
from services.evaluator.domain.answers import answer_key
from services.evaluator.tests.conftest import House
from services.evaluator.tests.outside import OutsideServer
from services.evaluator.tests.support import Facts, FakeGateway, command, send, spec
from services.evaluator.tests.test_arms import document_of, finished

TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]
TALK = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": None,
     "tool_calls": [{"id": "0", "type": "function", "function": {"name": "greet", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "0", "content": "greeted"},
]  # fmt: skip


async def put_suite(store: ObjectStore, directory: Path) -> str:
    directory.mkdir()
    rows = [
        {
            "item_id": f"item-{number}",
            "messages": [*TALK, {"role": "user", "content": f"ticket {number}"}],
            "answer": json.dumps({"tool_calls": [{"name": "find", "arguments": {"order": number, "fast": True}}]}),
            "category": "c",
            "group": f"g{number}",
            "tools": TOOLS,
        }
        for number in range(60)
    ]
    (directory / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return await store.put_tree(directory, kind="suite", metadata={})


async def test_a_call_is_right_whatever_its_spacing_and_order_and_every_arm_is_offered_the_tools(
    house: House, link: NatsLink, object_store: ObjectStore, gateway: FakeGateway, facts: Facts, tmp_path: Path
) -> None:
    offered: list[Any] = []

    def called(version: int, request: Any) -> tuple[str, str]:
        offered.append((json.loads(request.form.tools_json), request.messages[1].tool_calls[0].name))
        number = int(request.messages[-1].content.split()[1])
        return "find", json.dumps({"fast": True, "order": number if version else number + 1}, indent=1)

    def outside(asked: dict[str, Any]) -> list[dict[str, Any]]:
        assert asked["tools"] == TOOLS
        assert asked["messages"][1]["tool_calls"][0]["function"]["name"] == "greet"
        assert asked["messages"][2]["tool_call_id"] == "0"
        number = int(asked["messages"][-1]["content"].split()[1])
        arguments = json.dumps({"order": number, "fast": True}) if number % 2 else "no JSON"
        return [{"id": "x", "type": "function", "function": {"name": "find", "arguments": arguments}}]

    gateway.called = called
    with OutsideServer(outside) as server:
        await house.start()
        gates = [{"name": "better-than-base", "kind": "superiority", "against": "base"}]
        arms = [
            "base", "fine_tuned", "stable",
            {"name": "rival", "kind": "external", "endpoint": {"url": server.url, "model": "rival"}},
        ]  # fmt: skip
        evaluation = {"concurrency": 8, "repeat_items": 0, "gates": gates, "arms": arms}
        task = spec(output={"format": "text"}, evaluation=evaluation)
        await send(link, command(await put_suite(object_store, tmp_path / "suite"), spec=task))
        report = await finished(facts)
    assert report.verdict is Verdict.PASS, report.gates
    values = {name: arm["exact_match"].value for name, arm in report.arms.items()}
    assert values == {"fine_tuned": 1.0, "base": 0.0, "stable": 0.0, "rival": 0.5}
    assert offered == [(TOOLS, "greet")] * 120
    document = await document_of(object_store, report)
    assert '"tool_calls":[{"name":"find"' in json.dumps(document["examples"], separators=(",", ":")).replace("\\", "")


def test_answers_to_other_tools_are_other_answers() -> None:
    asked = (Message(role="user", content="q"),)
    call = ToolCall(id="1", name="find", arguments="{}")
    after = [Message(role="assistant", content="", tool_calls=(call,)), Message(role="tool", content="x")]
    keys = {
        answer_key("v", "s", asked, 16),
        answer_key("v", "s", asked, 16, tools=json.dumps(TOOLS)),
        answer_key("v", "s", (*asked, *after), 16),
        answer_key("v", "s", (*asked, after[0].model_copy(update={"tool_calls": ()}), after[1]), 16),
    }
    assert len(keys) == 4
