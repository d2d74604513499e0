"""A second call for an answer that is late to begin: whichever speaks first is heard, the other is hung up on."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from libs.contracts.errors import PawlError
from services.serving.gateway.domain import Chunk

Call = AsyncGenerator[Chunk, None]


async def hedged(first: Call, second: Callable[[], Call | None], after: float) -> Call:
    """Pieces of one answer (Dean & Barroso, The Tail at Scale, 2013).

    `second` makes the other call, or nothing where nobody else can be asked; it is made once `first` has said nothing
    for `after` seconds. A call that fails before it speaks leaves the floor to the other; with none left its error is
    raised.
    """
    beginnings = {asyncio.create_task(_begin(first)): first}
    try:
        await asyncio.wait(beginnings, timeout=after)
        if not any(each.done() for each in beginnings) and (other := second()) is not None:
            beginnings[asyncio.create_task(_begin(other))] = other
        winner, chunk = await _winner(beginnings)
    finally:
        for beginning in beginnings:
            beginning.cancel()
        await asyncio.gather(*beginnings, return_exceptions=True)
    for call in beginnings.values():
        if call is not winner:
            await call.aclose()
    async with aclosing(winner):
        if chunk is None:
            return
        yield chunk
        async for chunk in winner:
            yield chunk


async def _begin(call: Call) -> Chunk | None:
    return await anext(call, None)


async def _winner(beginnings: dict[asyncio.Task[Chunk | None], Call]) -> tuple[Call, Chunk | None]:
    left = set(beginnings)
    while True:
        done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        for beginning in done:
            if not isinstance(beginning.exception(), PawlError) or not (left or len(done) > 1):
                return beginnings[beginning], beginning.result()
            done = done - {beginning}
