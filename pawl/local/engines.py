"""Engines on demand: one for each base that a route names, within the stack's memory budget."""

import asyncio
from collections.abc import Callable

import nats
from nats.errors import Error as NatsError
from pydantic import ValidationError

from libs.artifacts import ObjectStore
from libs.contracts.errors import PawlError
from libs.contracts.routes import Route
from libs.contracts.subjects import ROUTES
from libs.eventing.connection import inbox_prefix

GIB = 1 << 30
ENGINE_OVERHEAD_BYTES = int(1.5 * GIB)
"""What vLLM takes beside the weights on CPU: interpreter, compiled kernels, its smallest cache."""


async def watch_bases(url: str, password: str, changed: Callable[[set[str]], None]) -> None:
    """Tell `changed` the base digests that the routes name now, whenever they change; outlives the broker's absence."""

    async def silent(_: Exception) -> None:
        """The supervisor's status line already says that the broker is away."""

    client = await nats.connect(
        url, name="pawl-supervisor", max_reconnect_attempts=-1, reconnect_time_wait=1, error_cb=silent,
        user="pawl", password=password, inbox_prefix=inbox_prefix("pawl"),
    )  # fmt: skip
    try:
        while True:
            try:
                bucket = await client.jetstream().key_value(ROUTES)
                named: set[str] = set()
                for key in await bucket.keys():
                    entry = await bucket.get(key)
                    named |= {arm.base_digest for arm in Route.model_validate_json(entry.value or b"").arms}
                changed(named)
            except (NatsError, ValidationError, TimeoutError):
                await asyncio.sleep(0.5)  # no bucket, no keys yet, or the broker is restarting
            await asyncio.sleep(0.5)
    finally:
        await client.close()


async def needed_bytes(store: ObjectStore, base_digest: str) -> int:
    """An estimate, in bytes, of what the engine of a base takes: twice its files (host and loaded) and the overhead."""
    try:
        manifest = await store.get_manifest(base_digest)
    except PawlError:
        return ENGINE_OVERHEAD_BYTES
    return 2 * sum(file.size for file in manifest.files.values()) + ENGINE_OVERHEAD_BYTES
