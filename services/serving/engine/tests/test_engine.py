"""A real engine with a tiny base: what it loads, refuses, proves and survives."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from libs.contracts.errors import FailedPrecondition, InvalidInput, Unavailable
from libs.contracts.inference import Role
from libs.contracts.routes import EngineReport
from libs.contracts.stubs.pawl.serving.v1 import engine_pb2, engine_pb2_grpc, inference_pb2
from libs.contracts.subjects import ENGINES
from libs.eventing.kv import kv_get
from libs.runtime.grpc_client import channel, rpc_errors
from libs.testing.wait import eventually
from services.serving.conftest import Stack, rewrite


class Client:
    """The engine's gRPC, shortened."""

    def __init__(self, stub: Any) -> None:
        self.stub = stub

    async def infer(self, digest: str, content: str = "hello", tokens: int = 12, **options: Any) -> list[Any]:
        request = engine_pb2.InferRequest(
            request_id="r",
            messages=[inference_pb2.Message(role="user", content=content)],
            sampling=inference_pb2.Sampling(max_tokens=tokens),
            version_digest=digest,
            **options,
        )
        with rpc_errors():
            return [each async for each in self.stub.Infer(request, timeout=60)]

    async def text(self, digest: str, content: str = "hello") -> str:
        return "".join(each.text_delta for each in await self.infer(digest, content))

    async def state(self) -> Any:
        return await self.stub.GetEngine(engine_pb2.GetEngineRequest(), timeout=10)

    async def routable(self, *digests: str) -> None:
        async def all_there() -> bool:
            return set(digests) <= set((await self.state()).routable)

        await eventually(all_there, 30, every=0.1)

    async def gone(self, digest: str) -> None:
        async def away() -> bool:
            return digest not in (await self.state()).routable

        await eventually(away, 30, every=0.1)


@pytest_asyncio.fixture
async def engine(stack: Stack) -> AsyncIterator[Client]:
    opened = channel(stack.engine.address)
    yield Client(engine_pb2_grpc.EngineServiceStub(opened))
    await opened.close()


async def report(stack: Stack) -> EngineReport:
    entry = await stack.linked(lambda link: kv_get(link, ENGINES, "engine"))
    assert entry.value is not None
    return EngineReport.model_validate_json(entry.value)


async def test_the_bare_base_answers_and_every_message_proves_it(stack: Stack, engine: Client) -> None:
    messages = await engine.infer(stack.base_digest)
    assert {each.base_digest for each in messages} == {stack.base_digest}
    assert {each.adapter_digest for each in messages} == {""}
    assert all(each.tokenizer_digest.startswith("sha256:") for each in messages)
    assert messages[-1].finish_reason in ("stop", "length")
    assert messages[-1].usage.completion_tokens == 12
    assert sum(1 for each in messages if each.finish_reason) == 1


async def test_a_prompt_is_known_to_its_own_tenant_only(stack: Stack, engine: Client) -> None:
    # Several blocks of the cache long. What one tenant asked cannot be found out by another from how long it took.
    prompt = "patient 4711 was admitted with " + "pain " * 70

    async def known(salt: str) -> tuple[int, str]:
        messages = await engine.infer(stack.base_digest, prompt, cache_salt=salt)
        return messages[-1].usage.cached_tokens, "".join(each.text_delta for each in messages)

    first, again, other, unsalted = [await known(salt) for salt in ("clinic", "clinic", "insurer", "")]
    assert [cached for cached, _ in (first, other, unsalted)] == [0, 0, 0]
    assert again[0] >= 128
    assert {text for _, text in (first, again, other, unsalted)} == {first[1]}


async def test_more_versions_than_slots_all_answer_as_themselves(stack: Stack, engine: Client, fresh_task: str) -> None:
    # Three slots, of which at most two are pinned: with all of them pinned one more adapter would kill vLLM.
    digests = [await stack.adapter(f"many-{seed}", seed) for seed in range(5)]
    roles = (Role.STABLE, Role.CANARY, Role.PREVIOUS, Role.CANDIDATE, Role.SHADOW)
    await stack.put_route(
        fresh_task,
        *(stack.arm(n + 1, role, digest) for n, (role, digest) in enumerate(zip(roles, digests, strict=True))),
    )
    await engine.routable(*digests)
    alone = [await engine.text(digest) for digest in digests]
    together = await asyncio.gather(*(engine.text(digest) for digest in digests * 3))
    # The same prompt under another adapter must never be answered from that adapter's cached prefix.
    assert together == alone * 3
    assert len(set(alone)) == len(digests)


async def test_a_version_that_no_route_names_any_more_is_let_go_and_can_come_back(
    stack: Stack, engine: Client, fresh_task: str
) -> None:
    first, second = await stack.adapter("leaving", 11), await stack.adapter("staying", 12)
    await stack.put_route(fresh_task, stack.arm(1, Role.STABLE, first), stack.arm(2, Role.CANARY, second))
    await engine.routable(first, second)
    before = await engine.text(first)
    await stack.put_route(fresh_task, stack.arm(2, Role.STABLE, second))
    await engine.gone(first)
    with pytest.raises(FailedPrecondition) as refused:
        await engine.infer(first)
    assert refused.value.reason == "VERSION_NOT_ROUTABLE"
    place = stack.engine.home / "cas" / first.removeprefix("sha256:")
    await eventually(lambda: not place.exists())
    await stack.put_route(fresh_task, stack.arm(1, Role.STABLE, first), stack.arm(2, Role.PREVIOUS, second))
    await engine.routable(first)
    assert await engine.text(first) == before


async def test_more_versions_than_memory_holds_are_loaded_when_asked_for_and_answer_as_themselves(
    stack: Stack, engine: Client, fresh_task: str
) -> None:
    # Memory holds six. All are verified; two wait on the disk until somebody asks.
    digests = [await stack.adapter(f"cold-{seed}", 300 + seed) for seed in range(8)]
    roles = (Role.STABLE, Role.PREVIOUS, *[Role.CANDIDATE] * 6)
    await stack.put_route(
        fresh_task,
        *(stack.arm(n + 1, role, digest) for n, (role, digest) in enumerate(zip(roles, digests, strict=True))),
    )

    async def known() -> set[str]:
        states = {each.digest: each.state for each in (await engine.state()).versions}
        assert set(digests) <= set(states)
        return {digest for digest in digests if states[digest] == "cold"}

    async def settled() -> set[str]:
        found = await known()
        assert len(found) == 2
        return found

    cold = await eventually(settled, 60, every=0.1)
    assert not cold & set(digests[:2]), "what has users is in memory"
    answers = [await engine.text(digest) for digest in digests]
    assert len(set(answers)) == len(digests)
    assert [await engine.text(digest) for digest in reversed(digests)] == answers[::-1]
    assert len(await known()) == 2


async def test_an_adapter_whose_files_are_gone_is_refused_and_the_engine_lives(
    stack: Stack, engine: Client, fresh_task: str
) -> None:
    digest = await stack.adapter("vanishing", 310)
    await stack.put_route(fresh_task, stack.arm(1, Role.STABLE, digest))
    await engine.routable(digest)
    before = await engine.text(digest)
    place = stack.engine.home / "cas" / digest.removeprefix("sha256:")
    place.rename(place.with_suffix(".away"))
    try:
        # vLLM would read them again for an adapter that it dropped, and die of it.
        with pytest.raises(Unavailable):
            await engine.infer(digest)
        assert await engine.text(stack.base_digest)
    finally:
        place.with_suffix(".away").rename(place)
    assert await engine.text(digest) == before


async def test_an_answer_says_how_much_of_the_engines_time_it_took(stack: Stack, engine: Client) -> None:
    messages = await engine.infer(stack.base_digest)
    seconds = [each.engine_seconds for each in messages]
    assert seconds == sorted(seconds)
    assert seconds[-1] > 0


def corrupt(place: Path) -> None:
    file = place / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def not_finite(place: Path) -> None:
    file = place / "adapter_model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-4] + b"\x00\x00\xc0\x7f")


async def test_bad_adapters_are_reported_and_hinder_nobody(stack: Stack, engine: Client, fresh_task: str) -> None:
    good = await stack.adapter("good", 20)
    bad = {
        "NO_SUCH_OBJECT": "sha256:" + "0" * 64,
        "rank": await stack.adapter("rank", 21, rank=32),
        "another base": await stack.adapter("foreign", 22, base_digest="sha256:" + "1" * 64),
        "not a safetensors": await stack.adapter("corrupt", 23, corrupt),
        "NaN": await stack.adapter("nan", 24, not_finite),
        "not allowed": await stack.adapter("unsafe", 25, lambda place: (place / "x.py").write_text("")),
        "modules_to_save": await stack.adapter(
            "extra", 26, lambda place: rewrite(place / "adapter_config.json", modules_to_save=["lm_head"])
        ),
        "was declared": await stack.adapter("lying", 27, lambda place: rewrite(place / "adapter_config.json", r=16)),
    }
    arms = [stack.arm(n + 2, Role.CANDIDATE, digest) for n, digest in enumerate(bad.values())]
    for start in range(0, len(arms), 4):  # no more at once than the engine has room for
        await stack.put_route(fresh_task, stack.arm(1, Role.STABLE, good), *arms[start : start + 4])
        expected = dict(list(bad.items())[start : start + 4])

        async def all_reported(expected: dict[str, str] = expected) -> bool:
            return set(expected.values()) <= set((await report(stack)).failed)

        await eventually(all_reported, 30, every=0.1)
        failed = (await report(stack)).failed
        for why, digest in expected.items():
            assert why in failed[digest]
    await engine.routable(good)
    assert await engine.text(good)


async def test_the_report_says_what_can_be_asked_for(stack: Stack, engine: Client, fresh_task: str) -> None:
    digest = await stack.adapter("reported", 30)
    await stack.put_route(fresh_task, stack.arm(1, Role.STABLE, digest))

    async def reported() -> bool:
        return digest in (await report(stack)).routable

    await eventually(reported, 30, every=0.1)
    said = await report(stack)
    assert said.address == stack.engine.address
    assert said.base_digest == stack.base_digest
    assert said.max_model_len == 512


async def test_a_prompt_that_leaves_no_room_is_refused_by_field(stack: Stack, engine: Client) -> None:
    with pytest.raises(InvalidInput) as refused:
        await engine.infer(stack.base_digest, "x" * 600)
    assert (refused.value.field, refused.value.reason) == ("messages", "PROMPT_TOO_LONG")


async def test_a_role_that_the_template_refuses_is_the_callers_mistake(stack: Stack, engine: Client) -> None:
    request = engine_pb2.InferRequest(
        request_id="r",
        messages=[inference_pb2.Message(role="wizard", content="x")],
        version_digest=stack.base_digest,
    )
    with pytest.raises(InvalidInput) as refused, rpc_errors():
        _ = [each async for each in engine.stub.Infer(request, timeout=30)]
    assert refused.value.field == "messages"


async def test_an_answer_never_exceeds_the_room_that_is_left(stack: Stack, engine: Client) -> None:
    last = (await engine.infer(stack.base_digest, "x" * 490, tokens=400))[-1]
    assert last.usage.prompt_tokens + last.usage.completion_tokens <= 512


async def test_log_probabilities_come_with_the_token_ids(stack: Stack, engine: Client) -> None:
    last = (await engine.infer(stack.base_digest, tokens=5, with_logprobs=True))[-1]
    assert len(last.output_token_ids) == len(last.output_logprobs) == 5
    assert len(last.prompt_token_ids) == last.usage.prompt_tokens
    assert all(value <= 0 for value in last.output_logprobs)


async def test_hanging_up_aborts_the_generation(stack: Stack, engine: Client) -> None:
    request = engine_pb2.InferRequest(
        request_id="long",
        messages=[inference_pb2.Message(role="user", content="x")],
        sampling=inference_pb2.Sampling(max_tokens=480, temperature=1.0, seed=1, n=16),
        version_digest=stack.base_digest,
    )
    call = engine.stub.Infer(request)
    await call.read()
    assert (await engine.state()).in_flight[stack.base_digest] == 1
    call.cancel()

    async def idle() -> bool:
        return not (await engine.state()).in_flight

    await eventually(idle)


async def test_the_engine_tells_where_every_version_stands(stack: Stack, engine: Client, fresh_task: str) -> None:
    stable, shadow = await stack.adapter("standing", 71), await stack.adapter("beside", 72)
    broken = await stack.adapter("broken", 73, rank=32)
    await stack.put_route(
        fresh_task,
        stack.arm(1, Role.STABLE, stable),
        stack.arm(2, Role.SHADOW, shadow),
        stack.arm(3, Role.CANDIDATE, broken),
    )
    await engine.routable(stable, shadow)

    async def told() -> dict[str, Any]:
        held = {each.digest: each for each in (await engine.state()).versions}
        assert {stable, shadow, broken} <= set(held)
        assert held[stable].resident
        assert held[stable].pinned
        return held

    held = await eventually(told, 30, every=0.1)
    assert (held[stack.base_digest].state, held[stack.base_digest].number) == ("routable", 0)
    assert (held[shadow].state, held[shadow].pinned) == ("routable", False)
    assert held[broken].state == "failed"
    assert "rank" in held[broken].reason
    assert held[stable].name.endswith(stable)


async def answered(engine: Client, digest: str) -> list[Any]:
    try:
        return await engine.infer(digest, "the same prompt")
    except FailedPrecondition:
        return []


async def test_after_any_number_of_swaps_a_prompt_never_gets_a_token_of_the_version_before(
    stack: Stack, engine: Client, fresh_task: str
) -> None:
    digests = [await stack.adapter(f"swap-{seed}", 80 + seed) for seed in range(4)]
    truth: dict[str, str] = {}
    for turn in range(12):
        digest = digests[(turn * 3 + turn // 4) % 4]
        await stack.put_route(fresh_task, stack.arm(turn + 1, Role.STABLE, digest))
        await engine.routable(digest)
        # The same prompt every time: whatever the prefix cache holds of another version must not be taken.
        # Asked for while it is on its way out, it is refused, and comes back.
        said = await eventually(partial(answered, engine, digest), 30, every=0.1, message=f"{digest} answers")
        assert {each.adapter_digest for each in said} == {digest}
        text = "".join(each.text_delta for each in said)
        assert truth.setdefault(digest, text) == text
    assert len(set(truth.values())) == len(digests)


async def test_users_go_before_evaluation_where_both_have_to_wait(stack: Stack, engine: Client) -> None:
    finished: list[int] = []

    async def one(priority: int) -> None:
        await engine.infer(stack.base_digest, f"priority {priority}", 480 if priority == 10 else 8, priority=priority)
        finished.append(priority)

    async def full() -> bool:
        return bool((await engine.state()).in_flight.get(stack.base_digest) == 80)

    # Shadows fill the batch (64) and more, for long; meanwhile the others come, users last.
    asked = [asyncio.create_task(one(10)) for _ in range(80)]
    await eventually(full)
    asked += [asyncio.create_task(one(priority)) for priority in (*[5] * 60, *[0] * 60)]
    await asyncio.gather(*asked)
    middle = {wanted: sum(n for n, each in enumerate(finished) if each == wanted) / 60 for wanted in (0, 5)}
    assert middle[0] < middle[5]
