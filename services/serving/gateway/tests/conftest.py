from collections.abc import AsyncIterator

import pytest_asyncio

from libs.contracts.inference import Role
from services.serving.conftest import Stack
from services.serving.gateway.tests.doors import served


@pytest_asyncio.fixture
async def task(stack: Stack, fresh_task: str) -> AsyncIterator[str]:
    """A task with versions 1 (stable) and 3 (candidate), served."""
    stable, candidate = await stack.adapter("stable", 41), await stack.adapter("candidate", 43)
    await stack.put_route(
        fresh_task,
        stack.arm(0, Role.PREVIOUS),
        stack.arm(1, Role.STABLE, stable, 1.0),
        stack.arm(3, Role.CANDIDATE, candidate),
    )
    await served(stack, fresh_task)
    yield fresh_task
