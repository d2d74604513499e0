"""The `openai` client's own ways of asking, before a real engine."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Literal

import openai
import pytest
import pytest_asyncio
from pydantic import BaseModel

from libs.contracts.inference import Inference, Role
from libs.contracts.subjects import INFERENCE
from libs.testing.wait import eventually
from services.serving.conftest import Stack
from services.serving.gateway.tests.doors import HELLO, api, served, stored

CHOICE: dict[str, Any] = {
    "type": "object",
    "properties": {"team": {"type": "string", "enum": ["billing", "network"]}},
    "required": ["team"],
    "additionalProperties": False,
}
TOOLS: list[Any] = [{"type": "function", "function": {"name": "route_to", "parameters": CHOICE}}]


@pytest_asyncio.fixture
async def task(stack: Stack, fresh_task: str) -> AsyncIterator[str]:
    """A task whose stable version is an adapter."""
    digest = await stack.adapter("openai", 61)
    await stack.put_route(fresh_task, stack.arm(1, Role.STABLE, digest, 1.0), max_tokens=200)
    await served(stack, fresh_task)
    yield fresh_task


async def test_a_text_is_continued_as_it_stands(stack: Stack, task: str) -> None:
    async with api(stack) as client:
        answer = await client.completions.create(model=task, prompt="Once upon", max_tokens=6, logprobs=2)
        pieces = await client.completions.create(model=task, prompt=["Once upon"], max_tokens=6, stream=True)
        text = "".join([piece.choices[0].text async for piece in pieces])
    assert answer.object == "text_completion"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (9, 6)
    assert answer.choices[0].text == text
    told = answer.choices[0].logprobs
    assert told is not None
    assert told.tokens is not None
    assert len(told.tokens) == 6
    assert "".join(told.tokens) == text or "\ufffd" in text + "".join(told.tokens)


async def test_several_answers_are_told_apart_and_of_one_version(stack: Stack, task: str) -> None:
    asked: dict[str, Any] = {"model": task, "messages": HELLO, "max_tokens": 5, "n": 3, "temperature": 1.0, "seed": 7}
    async with api(stack) as client:
        answer = await client.chat.completions.create(**asked)
        again = await client.chat.completions.create(**asked)
        streamed = await client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
        texts = dict.fromkeys(range(3), "")
        chunks = [chunk async for chunk in streamed]
        for chunk in chunks:
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
    held = [choice.message.content for choice in answer.choices]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len(set(held)) == 3
    assert held == [choice.message.content for choice in again.choices]
    assert [texts[index] for index in range(3)] == held
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 15
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 15
    assert {chunk.model for chunk in chunks} == {f"{task}@1"}


async def test_each_token_comes_with_its_log_probability_and_its_rivals(stack: Stack, task: str) -> None:
    asked: dict[str, Any] = {"model": task, "messages": HELLO, "max_tokens": 4, "logprobs": True, "top_logprobs": 3}
    async with api(stack) as client:
        answer = await client.chat.completions.create(**asked)
        streamed = [chunk async for chunk in await client.chat.completions.create(**asked, stream=True)]
    assert answer.choices[0].logprobs is not None
    content = answer.choices[0].logprobs.content
    assert content is not None
    assert len(content) == 4
    for place in content:
        # Greedy: the token taken is the likeliest.
        assert len(place.top_logprobs) == 3
        assert place.top_logprobs[0].logprob == place.logprob <= 0
        assert bytes(place.bytes or []).decode() == place.token
    flat = [
        place
        for chunk in streamed
        for choice in chunk.choices
        if choice.logprobs
        for place in choice.logprobs.content or []
    ]
    assert [place.token for place in flat] == [place.token for place in content]


async def test_a_schema_is_obeyed(stack: Stack, task: str) -> None:
    async with api(stack) as client:
        answer = await client.chat.completions.create(
            model=task,
            messages=HELLO,
            response_format={"type": "json_schema", "json_schema": {"name": "team", "strict": True, "schema": CHOICE}},
        )
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(
                model=task,
                messages=HELLO,
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "bad", "schema": {"type": "no such type"}},
                },
            )
    assert json.loads(answer.choices[0].message.content or "")["team"] in ("billing", "network")
    assert refused.value.param == "response_format"


async def test_a_task_may_hold_every_answer_to_its_own_schema(stack: Stack, task: str) -> None:
    digest = await stack.adapter("openai", 61)
    await stack.put_route(
        task, stack.arm(1, Role.STABLE, digest, 1.0), max_tokens=200, output_schema=json.dumps(CHOICE)
    )
    async with api(stack) as client:

        async def held() -> bool:
            answer = await client.chat.completions.create(model=task, messages=HELLO)
            return (answer.choices[0].message.content or "").startswith("{")

        await eventually(held, 20, every=0.2)


async def test_a_call_that_is_asked_for_is_made_and_logged(stack: Stack, task: str) -> None:
    async with api(stack) as client:
        required = await client.chat.completions.create(
            model=task, messages=HELLO, tools=TOOLS, tool_choice="required", parallel_tool_calls=False
        )
        named: Any = {"type": "function", "function": {"name": "route_to"}}
        streamed = await client.chat.completions.create(
            model=task, messages=HELLO, tools=TOOLS, tool_choice=named, stream=True
        )
        chunks = [chunk async for chunk in streamed]
        assert required.choices[0].finish_reason == "tool_calls", required.choices[0]
        call = (required.choices[0].message.tool_calls or [])[0]
        assert call.type == "function"
        assert required.choices[0].message.content is None
        assert call.function.name == "route_to"
        assert json.loads(call.function.arguments)["team"] in ("billing", "network")
        last = chunks[-1].choices[0]
        assert last.finish_reason == "tool_calls"
        assert last.delta.tool_calls is not None
        assert last.delta.tool_calls[0].function is not None
        assert json.loads(last.delta.tool_calls[0].function.arguments or "")["team"] in ("billing", "network")
        # The result goes back as the client's library would send it.
        followed = await client.chat.completions.create(
            model=task,
            messages=[
                *HELLO,
                required.choices[0].message.model_dump(exclude_none=True),
                {"role": "tool", "tool_call_id": call.id, "content": "routed"},
            ],
            max_tokens=4,
        )
        assert followed.usage is not None
        assert followed.usage.completion_tokens == 4

    async def logged() -> list[Inference]:
        records = [
            Inference.model_validate_json(each.data)
            for each in await stored(stack, INFERENCE, f"inference.default.{task}")
        ]
        return records if len(records) == 3 else []

    first = (await eventually(logged))[0]
    assert first.tool_calls[0].name == "route_to"
    assert json.loads(first.tools)[0]["function"]["name"] == "route_to"
    assert first.key == "client-key"


async def test_a_free_choice_of_tools_leaves_the_text_alone(stack: Stack, task: str) -> None:
    async with api(stack) as client:
        answer = await client.chat.completions.create(model=task, messages=HELLO, tools=TOOLS, max_tokens=8)
        pieces = await client.chat.completions.create(
            model=task, messages=HELLO, tools=TOOLS, max_tokens=8, stream=True
        )
        text = "".join([piece.choices[0].delta.content or "" async for piece in pieces])
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].message.content == text


async def test_stop_penalties_and_biases_reach_the_model(stack: Stack, task: str) -> None:
    async with api(stack) as client:
        forced = await client.chat.completions.create(model=task, messages=HELLO, max_tokens=4, logit_bias={"70": 100})
        character = (forced.choices[0].message.content or "")[0]
        stopped = await client.chat.completions.create(
            model=task, messages=HELLO, max_tokens=4, logit_bias={"70": 100}, stop=[character * 2]
        )
        varied = await client.chat.completions.create(
            model=task, messages=HELLO, max_tokens=8, presence_penalty=2.0, frequency_penalty=2.0
        )
    assert forced.choices[0].message.content == character * 4
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.choices[0].message.content == ""
    assert varied.usage is not None


async def test_embeddings_are_refused_by_name(stack: Stack, task: str) -> None:
    async with api(stack) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.embeddings.create(model=task, input="hello")
        with pytest.raises(openai.NotFoundError):
            await client.embeddings.create(model="nobody", input="hello")
    assert (refused.value.code, refused.value.param) == ("embeddings_not_supported", "model")


class Team(BaseModel):
    """What an answer is parsed into."""

    team: Literal["billing", "network"]


async def test_the_clients_helpers_parse_stream_and_show_headers(stack: Stack, task: str) -> None:
    async with api(stack) as client:
        parsed = await client.chat.completions.parse(model=task, messages=HELLO, response_format=Team)
        raw = await client.chat.completions.with_raw_response.create(model=task, messages=HELLO, max_tokens=6)
        async with client.chat.completions.stream(model=task, messages=HELLO, response_format=Team) as stream:
            kinds = [event.type async for event in stream]
            streamed = await stream.get_final_completion()
        card = await client.models.retrieve(f"{task}@1")
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("nobody")
    answer = raw.parse()
    team = parsed.choices[0].message.parsed
    assert team is not None
    assert team.team in ("billing", "network")
    assert (raw.headers["x-pawl-request-id"], raw.headers["x-pawl-model-version"]) == (answer.id, f"{task}@1")
    assert {"chunk", "content.delta", "content.done"} <= set(kinds)
    assert streamed.choices[0].message.parsed == team
    assert card.id == f"{task}@1"


async def test_the_client_that_waits_for_its_answers_works_as_the_other_does(stack: Stack, task: str) -> None:
    def visit() -> tuple[str | None, str, list[str]]:
        with openai.OpenAI(base_url=f"{stack.http}/v1", api_key="client-key") as client:
            asked: dict[str, Any] = {"model": task, "messages": HELLO, "max_tokens": 6}
            whole = client.chat.completions.create(**asked)
            streamed = client.chat.completions.create(**asked, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
            return whole.choices[0].message.content, text, [each.id for each in client.models.list()]

    whole, streamed, models = await asyncio.to_thread(visit)
    assert whole == streamed
    assert task in models
