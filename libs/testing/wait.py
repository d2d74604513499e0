"""Waiting for something to become true, without guessing how long it takes."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(
    check: Callable[[], Awaitable[T]], timeout: float = 10.0, *, every: float = 0.02, message: str = ""
) -> T: ...
@overload
async def eventually(check: Callable[[], T], timeout: float = 10.0, *, every: float = 0.02, message: str = "") -> T: ...
async def eventually(check: Callable[[], Any], timeout: float = 10.0, *, every: float = 0.02, message: str = "") -> Any:
    """Call `check` until it returns something true and return that; AssertionError after `timeout` seconds.

    A `check` that fails an assertion is tried again; the last failure is shown at the end.
    """
    deadline = time.monotonic() + timeout
    failure: AssertionError | None = None
    while True:
        try:
            outcome = check()
            value = await outcome if inspect.isawaitable(outcome) else outcome
            failure = None
            if value:
                return value
        except AssertionError as error:
            failure = error
        if time.monotonic() > deadline:
            what = message or inspect.getsource(check).strip() if callable(check) else message
            raise AssertionError(f"not within {timeout} s: {what}") from failure
        await asyncio.sleep(every)
