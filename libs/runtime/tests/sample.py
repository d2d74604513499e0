"""A small process of the kind the tests start, stop and kill: `python -m libs.runtime.tests.sample MODE`."""

import asyncio
import sys
import time
from functools import partial

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from libs.contracts.errors import FailedPrecondition, Unavailable
from libs.runtime.children import spawn_child
from libs.runtime.grpc_server import GrpcServer
from libs.runtime.process import Lifecycle, run
from libs.runtime.settings import Port, ProcessSettings, ServiceSettings
from libs.runtime.tests.children_sample import live_forever


class SampleSettings(ProcessSettings):
    model_config = SettingsConfigDict(env_prefix="PAWL_SAMPLE_")

    grpc_port: Port = 0
    api_secret: SecretStr = SecretStr("nothing")
    weights: dict[str, int] = Field(default_factory=dict)


class FullSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="PAWL_SAMPLE_")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def main(mode: str, settings: SampleSettings, lifecycle: Lifecycle) -> None:
    async def drained(name: str) -> None:
        say(f"drained {name}")

    for name in ("first", "second", "third"):
        lifecycle.on_drain(partial(drained, name), name)
    if mode == "returns":
        return
    await MODES.get(mode, _nothing)(settings, lifecycle)
    say("up")
    await lifecycle.wait_stopped()
    if mode == "last words":
        await asyncio.sleep(0.1)
        say("last words")


async def _nothing(settings: SampleSettings, lifecycle: Lifecycle) -> None:
    """Be well."""


async def _crashing(settings: SampleSettings, lifecycle: Lifecycle) -> None:
    lifecycle.spawn(_crash(), "relay")


async def _failing(settings: SampleSettings, lifecycle: Lifecycle) -> None:
    lifecycle.fail("the broker closed the connection")


async def _permanent(settings: SampleSettings, lifecycle: Lifecycle) -> None:
    raise FailedPrecondition("another replica holds the database", field="PAWL_SAMPLE_STATE_DIR")


async def _transient(settings: SampleSettings, lifecycle: Lifecycle) -> None:
    raise Unavailable("object storage is away")


async def _startup(settings: SampleSettings, lifecycle: Lifecycle) -> None:
    say("waiting")
    await asyncio.sleep(600)


async def _stall(settings: SampleSettings, lifecycle: Lifecycle) -> None:
    asyncio.get_running_loop().call_later(0.5, time.sleep, 600)


async def _blocked_drain(settings: SampleSettings, lifecycle: Lifecycle) -> None:
    lifecycle.on_drain(partial(asyncio.sleep, 600), "blocked")


async def _failing_drain(settings: SampleSettings, lifecycle: Lifecycle) -> None:
    lifecycle.on_drain(_crash, "failing")


async def _not_ready(settings: SampleSettings, lifecycle: Lifecycle) -> None:
    lifecycle.ready("nats", lambda: "not connected")
    lifecycle.ready("store", lambda: None)
    lifecycle.ready("broken", lambda: str(1 // 0))


async def _stuck_thread(settings: SampleSettings, lifecycle: Lifecycle) -> None:
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 600)


async def _grpc(settings: SampleSettings, lifecycle: Lifecycle) -> None:
    server = GrpcServer("127.0.0.1", settings.grpc_port, variable=settings.variable("grpc_port"))
    await server.start()
    lifecycle.on_drain(partial(server.stop, 1.0), "grpc")


async def _parent(settings: SampleSettings, lifecycle: Lifecycle) -> None:
    child = await spawn_child(live_forever)
    say(f"child {child.pid}")


MODES = {
    "crash": _crashing,
    "fail": _failing,
    "permanent": _permanent,
    "transient": _transient,
    "startup": _startup,
    "stall": _stall,
    "blocked drain": _blocked_drain,
    "failing drain": _failing_drain,
    "not ready": _not_ready,
    "stuck thread": _stuck_thread,
    "grpc": _grpc,
    "parent": _parent,
}


async def _crash() -> None:
    await asyncio.sleep(0.2)
    raise ValueError("the relay broke, password=hunter2")


if __name__ == "__main__":
    if sys.argv[1] == "full":
        FullSettings.load()
    loaded = SampleSettings.load()
    run("sample", partial(main, " ".join(sys.argv[1:]), loaded), loaded)
