"""Turns at vLLM's door, without vLLM."""

import asyncio

from libs.testing.wait import eventually
from services.serving.engine.compute.slots import Slots


class Requests:
    """Requests that hold their slot until told."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.inside: list[int] = []
        self.ends: dict[asyncio.Task[None], asyncio.Event] = {}

    async def start(self, number: int, priority: int = 0) -> asyncio.Task[None]:
        end = asyncio.Event()

        async def hold() -> None:
            async with self.slots.use(number, priority):
                self.inside.append(number)
                await end.wait()
            self.inside.remove(number)

        task = asyncio.create_task(hold())
        self.ends[task] = end
        for _ in range(3):
            await asyncio.sleep(0)
        return task

    async def end(self, *tasks: asyncio.Task[None]) -> None:
        for task in tasks:
            self.ends[task].set()
        await asyncio.gather(*tasks)


async def test_adapters_that_are_not_pinned_share_what_the_pinned_ones_leave() -> None:
    slots = Slots(3)
    assert slots.pin(1)
    assert slots.pin(2)
    requests = Requests(slots)
    third = await requests.start(3)
    fourth = await requests.start(4)
    pinned = [await requests.start(1), await requests.start(2), await requests.start(0)]
    assert requests.inside == [3, 1, 2, 0]
    assert slots.waiting == 1
    await requests.end(third)
    await eventually(lambda: 4 in requests.inside)
    await requests.end(fourth, *pinned)


async def test_a_busy_adapter_keeps_no_other_out() -> None:
    slots = Slots(2)
    assert slots.pin(1)
    requests = Requests(slots)
    first, other, again = await requests.start(2), await requests.start(3), await requests.start(2)
    assert requests.inside == [2]
    await requests.end(first)
    await eventually(lambda: requests.inside == [3])
    await requests.end(other)
    await eventually(lambda: requests.inside == [2])
    await requests.end(again)


async def test_a_pin_gets_the_next_slot_that_requests_leave_and_nobody_is_let_in_before_it() -> None:
    slots = Slots(2)
    requests = Requests(slots)
    running = [await requests.start(2), await requests.start(3)]
    assert not slots.pin(1)
    late = await requests.start(4)
    await requests.end(running[0])
    assert slots.pin(1)
    assert requests.inside == [3]
    await requests.end(running[1], late)


async def test_the_last_slot_is_never_pinned() -> None:
    slots = Slots(2)
    assert slots.pin(1)
    assert not slots.pin(2)
    requests = Requests(slots)
    other = await requests.start(2)
    assert requests.inside == [2]
    await requests.end(other)


async def test_users_go_before_evaluation_and_evaluation_before_shadows() -> None:
    slots = Slots(1)
    requests = Requests(slots)
    running = await requests.start(1)
    shadow, evaluation, user, second = [
        await requests.start(number, priority) for number, priority in ((2, 10), (3, 5), (4, 0), (5, 0))
    ]
    order = []
    for task in (user, second, evaluation, shadow):
        await requests.end(running)
        order += await eventually(lambda: list(requests.inside))
        running = task
    await requests.end(running)
    assert order == [4, 5, 3, 2]


async def test_a_shadow_at_the_door_keeps_no_user_out_of_a_slot_that_is_held_already() -> None:
    slots = Slots(1)
    requests = Requests(slots)
    running = await requests.start(1)
    shadow = await requests.start(2, 10)
    user = await requests.start(1)
    assert requests.inside == [1, 1]
    await requests.end(running, user, shadow)


async def test_a_request_that_gives_up_at_the_door_leaves_nothing_behind() -> None:
    slots = Slots(1)
    requests = Requests(slots)
    running = await requests.start(1)
    waiting, behind = await requests.start(2), await requests.start(1)
    waiting.cancel()
    await eventually(lambda: requests.inside == [1, 1])
    await requests.end(running, behind)
    assert slots.waiting == 0
