"""Two tenants before one gateway and one engine: neither sees, asks or times what is the other's."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest
import pytest_asyncio

from libs.contracts.ids import new_id
from libs.contracts.inference import Role
from libs.contracts.routes import ApiKey, KeyRole, Route
from libs.contracts.subjects import KEYS, ROUTES, task_key
from libs.eventing.connection import NatsLink
from libs.eventing.kv import kv_put
from libs.testing.wait import eventually
from services.serving.conftest import Stack
from services.serving.gateway.tests.doors import api

PROMPT = "the patient of bed 12 was given " + "rest " * 70


@dataclass(frozen=True)
class Tenant:
    """A tenant with a task of its own on the shared base, and a key for it."""

    name: str
    key: str
    task: str


async def moved_in(stack: Stack, name: str) -> Tenant:
    made = Tenant(f"{name}-{new_id('t')[-6:].lower()}", new_id("key"), f"{name}-notes")
    digest = hashlib.sha256(made.key.encode()).hexdigest()
    key = ApiKey(key_hash=digest, name=name, tenant=made.name, roles=(KeyRole.CLIENT,))
    arm = stack.arm(0, Role.STABLE, "", 1.0)
    route = Route(tenant=made.name, task=made.task, generation=1, salt="s", max_tokens=16, arms=(arm,))

    async def announce(link: NatsLink) -> None:
        await kv_put(link, KEYS, digest, key)
        await kv_put(link, ROUTES, task_key(made.name, made.task), route)

    await stack.linked(announce)
    async with api(stack, made.key) as client:

        async def known() -> bool:
            try:
                return [each.id async for each in client.models.list()] != []
            except openai.AuthenticationError:
                return False

        await eventually(known, 20, every=0.05)
    return made


@pytest_asyncio.fixture
async def tenants(stack: Stack) -> AsyncIterator[tuple[Tenant, Tenant]]:
    both = await moved_in(stack, "clinic"), await moved_in(stack, "insurer")
    yield both

    async def leave(link: NatsLink) -> None:
        for each in both:
            await kv_put(link, ROUTES, task_key(each.name, each.task), None)

    await stack.linked(leave)


async def test_a_tenant_neither_sees_nor_asks_what_is_anothers(stack: Stack, tenants: tuple[Tenant, Tenant]) -> None:
    for mine, others in (tenants, tenants[::-1]):
        async with api(stack, mine.key) as client:
            assert {each.id async for each in client.models.list()} == {mine.task, f"{mine.task}@0"}
            for model in (others.task, f"{others.task}@0"):
                with pytest.raises(openai.NotFoundError):
                    await client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])


async def test_the_same_prompt_of_two_tenants_shares_no_cached_prefix(
    stack: Stack, tenants: tuple[Tenant, Tenant]
) -> None:
    async def cached(tenant: Tenant, *, stream: bool = False) -> int:
        async with api(stack, tenant.key) as client:
            asked: dict[str, Any] = {
                "model": tenant.task,
                "messages": [{"role": "user", "content": PROMPT}],
                "max_tokens": 2,
            }
            if not stream:
                usage = (await client.chat.completions.create(**asked)).usage
            else:
                asked |= {"stream": True, "stream_options": {"include_usage": True}}
                usage = [chunk async for chunk in await client.chat.completions.create(**asked)][-1].usage
        assert usage.prompt_tokens_details is not None
        return int(usage.prompt_tokens_details.cached_tokens or 0)

    clinic, insurer = tenants
    assert await cached(clinic) == 0
    assert await cached(insurer) == 0, "the clinic asked the same a moment ago"
    assert await cached(clinic) >= 128
    assert await cached(insurer, stream=True) >= 128
