"""A part of a stack, started alone, finds on the broker what its processes need."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import nats
from nats.js.client import JetStreamContext

from libs.eventing import topology
from libs.testing.wait import eventually
from pawl.local import specs
from pawl.local.layout import Layout
from pawl.local.supervisor import Supervisor


@contextlib.asynccontextmanager
async def part(layout: Layout, *only: str) -> AsyncIterator[tuple[Supervisor, list[str]]]:
    """A supervisor of some processes, up."""
    said: list[str] = []
    supervisor = Supervisor(layout, only=only, memory_bytes=0, say=said.append)
    supervisor.lock()
    running = asyncio.create_task(supervisor.run())

    async def up() -> bool:
        if running.done():
            await running
        return all(any(line.split()[:2] == [name, "up"] for line in said) for name in only)

    try:
        await eventually(up, 60)
        yield supervisor, said
    finally:
        supervisor.stopping.set()
        await running


@contextlib.asynccontextmanager
async def stream_context(supervisor: Supervisor) -> AsyncIterator[JetStreamContext]:
    address, secret = specs.endpoints(supervisor.state)["nats"], supervisor.state.secret("nats_topology")
    client = await nats.connect(address, user="topology", password=secret)
    yield client.jetstream()
    await client.close()


async def test_a_broker_started_alone_has_its_streams(tmp_path: Path) -> None:
    async with part(Layout.at(tmp_path / ".pawl"), "nats", "s3") as (supervisor, _), stream_context(supervisor) as js:
        held = {each.config.name for each in await js.streams_info()}
        assert {each.name for each in topology.STREAMS} <= held
        assert await supervisor._store().for_tenant("default").put_bytes(b"x", kind="report")


async def test_a_part_gives_a_broker_of_an_older_version_what_it_lacks(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path / ".pawl")
    async with part(layout, "nats") as (supervisor, _), stream_context(supervisor) as js:
        await js.delete_stream("CMD")
        later, said = Supervisor(layout, only=["gateway"], memory_bytes=0, say=print), list[str]()
        later.say = said.append
        await later._bring_broker_up_to_date()
        assert "CMD" in {each.config.name for each in await js.streams_info()}
        assert said == []
    # Where no broker answers there is nothing to wait for.
    await asyncio.wait_for(later._bring_broker_up_to_date(), 1.0)
    assert said == []
