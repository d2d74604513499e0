"""The life of a process: start, serve, drain on a signal, and end with a status that says how it went."""

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn

import uvloop

from libs import telemetry
from libs.contracts.errors import PawlError, Permanent
from libs.runtime.health import Check, HealthServer, Probes
from libs.runtime.settings import EXIT_USAGE, ProcessSettings
from libs.telemetry import get_logger

log = get_logger(__name__)

EXIT_FAILED = 1
_STARTUP_CANCEL_SECONDS = 0.5
_HARD_EXIT_MARGIN_SECONDS = 5.0


class Lifecycle:
    """What a process's `main` uses to take part in its own life: readiness, drain, supervised tasks, stopping."""

    def __init__(self, service: str, settings: ProcessSettings, probes: Probes) -> None:
        self.service = service
        self.settings = settings
        self.stopping = asyncio.Event()
        """Set when the process has begun to stop."""
        self.started = False
        self._probes = probes
        self._drains: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed = False

    @property
    def failed(self) -> bool:
        """Whether the process is going to end with a failure status."""
        return self._failed

    def ready(self, name: str, check: Check) -> None:
        """Add a readiness check: it returns None when fine, otherwise the reason that `/readyz` shows."""
        self._probes.add(name, check)

    def on_drain(self, action: Callable[[], Awaitable[None]], name: str | None = None) -> None:
        """Run `action` when the process stops; the last one added runs first."""
        self._drains.append((name or str(getattr(action, "__qualname__", action)), action))

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a supervised task. An exception in it ends the process with status 1; it is cancelled after the drain."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def stop(self, why: str) -> None:
        """Begin to stop in good order; calling it again does nothing."""
        if not self.stopping.is_set():
            log.info("stopping", why=why)
            self._probes.add("draining", lambda: why)
            self.stopping.set()

    def fail(self, why: str) -> None:
        """Stop in good order and end with status 1, for a fault that only a restart heals."""
        if not self._failed:
            self._failed = True
            log.error("failed", why=why)
        self.stop(why)

    async def wait_stopped(self) -> None:
        """Mark the start as complete and wait until the process is asked to stop: the last line of `main`."""
        # What the start made stays; a collector that walks over it stops everything for tens of milliseconds each time.
        gc.collect()
        gc.freeze()
        self.started = True
        self._probes.remove("starting")
        if not self.stopping.is_set():
            log.info("started", pid=os.getpid())
        await self.stopping.wait()

    async def drain(self, seconds: float) -> None:
        """Run the drain actions, last added first, then cancel supervised tasks, all within `seconds`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self._drains:
            name, action = self._drains.pop()
            try:
                async with asyncio.timeout_at(deadline):
                    await action()
            except TimeoutError:
                self._failed = True
                log.error("drain action took too long", action=name, seconds=seconds)
            except Exception:  # process boundary: the other actions still have to run
                self._failed = True
                log.exception("drain action failed", action=name)
        tasks = [task for task in self._tasks if not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=max(1.0, deadline - loop.time()))
            for task in left:
                self._failed = True
                log.error("task did not stop", task=task.get_name())

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        failure = task.exception()
        if failure is not None:
            log.error("task crashed", exc_info=failure, task=task.get_name())
            self.fail(f"task {task.get_name()} crashed: {type(failure).__name__}")


def run(service: str, main: Callable[[Lifecycle], Awaitable[None]], settings: ProcessSettings) -> NoReturn:
    """Run a process until it is told to stop, then exit: 0 after a clean drain, 1 after a crash, 2 on wrong settings.

    `main` wires the process up and ends with `await lifecycle.wait_stopped()`; returning earlier ends the process
    (a one-shot job). SIGTERM and SIGINT drain, a second one ends the process at once. A `Permanent` error before
    the start is complete is told in one line on stderr.
    """
    telemetry.setup(service, level=settings.log_level, otlp_endpoint=settings.otlp_endpoint)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    for wrong, right in settings.misspelt(os.environ).items():
        log.warning("unknown setting", variable=wrong, nearest=right)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        status = runner.run(_live(service, main, settings))
    telemetry.shutdown()
    logging.shutdown()
    sys.stdout.flush()
    # Everything is drained. What is left are libraries' threads, which may hang or crash an interpreter that takes
    # itself apart under them (gRPC does, now and then), and the status would say so instead of how it went.
    os._exit(status)


async def _live(service: str, main: Callable[[Lifecycle], Awaitable[None]], settings: ProcessSettings) -> int:
    loop = asyncio.get_running_loop()
    probes = Probes()
    probes.add("starting", lambda: "the process has not finished starting")
    lifecycle = Lifecycle(service, settings, probes)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, lifecycle, number)
    health = HealthServer(settings.health_host, settings.health_port, probes, variable=settings.variable("health_port"))
    ticking = loop.create_task(probes.tick(), name="tick")
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        health.start()
    except PawlError as failure:
        return _refuse(service, failure)
    except OSError as failure:
        return _refuse(service, f"{settings.variable('state_dir')}: {failure}")

    body = loop.create_task(_body(main, lifecycle), name="main")
    stopping = loop.create_task(lifecycle.stopping.wait(), name="stopping")
    await asyncio.wait({body, stopping}, return_when=asyncio.FIRST_COMPLETED)
    _arm_hard_exit(settings.drain_seconds + _HARD_EXIT_MARGIN_SECONDS)
    if not body.done():
        # A start that is still waiting for something (a broker, a lock) is given up; what comes after
        # `wait_stopped` is part of the drain.
        await asyncio.wait({body}, timeout=settings.drain_seconds if lifecycle.started else _STARTUP_CANCEL_SECONDS)
        body.cancel()
        await asyncio.wait({body}, timeout=1.0)
    status = _status_of(service, body, lifecycle)
    lifecycle.stop("main returned" if status == 0 else "main failed")
    await lifecycle.drain(settings.drain_seconds)
    stopping.cancel()
    ticking.cancel()
    health.stop()
    status = status or (EXIT_FAILED if lifecycle.failed else 0)
    log.info("stopped", status=status)
    return status


async def _body(main: Callable[[Lifecycle], Awaitable[None]], lifecycle: Lifecycle) -> None:
    await main(lifecycle)


def _status_of(service: str, body: asyncio.Task[None], lifecycle: Lifecycle) -> int:
    if not body.done() or body.cancelled():
        return 0
    failure = body.exception()
    if failure is None:
        return 0
    if isinstance(failure, Permanent) and not lifecycle.started:
        return _refuse(service, failure)
    if isinstance(failure, SystemExit):
        return failure.code if isinstance(failure.code, int) else EXIT_FAILED
    log.error("process crashed", exc_info=failure)
    return EXIT_FAILED


def _refuse(service: str, why: object) -> int:
    where = f"{why.field}: " if isinstance(why, PawlError) and why.field else ""
    said = why.message if isinstance(why, PawlError) else str(why)
    sys.stderr.write(f"error: {service}: {where}{' '.join(said.split())}\n")
    sys.stderr.flush()
    return EXIT_USAGE


def _on_signal(lifecycle: Lifecycle, number: signal.Signals) -> None:
    if lifecycle.stopping.is_set():
        log.warning("second signal, ending at once", signal=number.name)
        os._exit(128 + number)
    lifecycle.stop(number.name)


def _arm_hard_exit(seconds: float) -> None:
    # A thread stuck in a library call would hold the interpreter's exit for ever.
    def end() -> None:
        log.error("did not stop in time, ending hard", seconds=seconds)
        os._exit(EXIT_FAILED)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
