"""A second engine is asked where the first is late, and only where that is wanted."""

import asyncio
from collections.abc import AsyncGenerator

from services.serving.gateway.domain import (
    Chunk,
    Inquiry,
    Limits,
)
from services.serving.gateway.tests.rig import (
    AWAY,
    STABLE,
    Engines,
    Rig,
    fails,
    query,
    says,
)
from services.serving.gateway.workflows import Answering


class Late(Engines):
    """Addresses in `silent` say nothing until told; `closed` are those that were hung up on."""

    def __init__(self) -> None:
        super().__init__()
        self.silent: dict[str, asyncio.Event] = {}
        self.closed: list[str] = []

    async def infer(self, address: str, inquiry: Inquiry) -> AsyncGenerator[Chunk, None]:
        try:
            if address in self.silent:
                await self.silent[address].wait()
            async for chunk in super().infer(address, inquiry):
                yield chunk
        except (asyncio.CancelledError, GeneratorExit):
            self.closed.append(address)
            raise


def late_rig(hedge_after: float) -> tuple[Rig, Late]:
    rig, engines = Rig(STABLE), Late()
    rig.engines = engines
    rig.answering = Answering(
        tables=rig.tables, engines=engines, records=rig.log, limits=Limits(), admission_wait=5.0, max_in_flight=2,
        shadow_in_flight=0, shadow_below=0, hedge_after=hedge_after, ledger=rig.ledger,
    )  # fmt: skip
    for address in "ab":
        rig.engine(address, says(f"by {address}"), "d1")
    return rig, engines


async def test_by_default_nobody_is_asked_twice() -> None:
    rig, engines = late_rig(0.0)
    engines.silent["a"] = asyncio.Event()
    asked = asyncio.create_task(rig.whole(query()))
    await asyncio.sleep(0.05)
    engines.silent["a"].set()
    assert (await asked)[1].text == "by a"
    assert [address for address, _ in engines.calls] == ["a"]


async def test_an_answer_late_to_begin_is_asked_of_another_engine_where_that_is_wanted() -> None:
    rig, engines = late_rig(0.01)
    engines.silent["a"] = asyncio.Event()
    text = (await rig.whole(query()))[1].text
    assert text == "by b"
    assert engines.closed == ["a"]
    assert [record.output for record in rig.log.records] == ["by b"], "one answer, one record"
    assert sum(use.answers for use in rig.ledger.held.values()) == 1


async def test_where_the_first_engine_fails_meanwhile_the_second_is_heard() -> None:
    rig, engines = late_rig(0.01)
    engines.scripts["a"] = fails(AWAY)
    engines.silent = {"a": asyncio.Event(), "b": asyncio.Event()}
    events = dict(engines.silent)
    asked = asyncio.create_task(rig.whole(query()))
    await asyncio.sleep(0.05)
    events["a"].set()
    await asyncio.sleep(0.01)
    events["b"].set()
    assert (await asked)[1].text == "by b"
