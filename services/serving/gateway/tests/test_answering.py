"""What becomes of a request when engines fail: engines that fail on cue, since real ones do not."""

import asyncio

import pytest

from libs.contracts.errors import Busy, InvalidInput, Unavailable
from libs.contracts.inference import Role
from libs.testing.wait import eventually
from services.serving.gateway.domain import (
    Purpose,
    Usage,
    unit_of,
)
from services.serving.gateway.tests.rig import (
    AWAY,
    EVALUATOR,
    STABLE,
    Rig,
    arm,
    fails,
    query,
    says,
)


async def test_an_answer_is_recorded_with_everything_that_a_decision_needs() -> None:
    rig = Rig(STABLE)
    rig.engine("a", says("hel", "lo"), "d1")
    generation, chunk = await rig.whole(query(user="ann"))
    assert (generation.version, chunk.text, chunk.usage) == ("t@1", "hello", Usage(3, 2))
    (record,) = rig.log.records
    assert (record.request_id, record.generation, record.version, record.role) == ("r", 7, 1, Role.STABLE)
    assert (record.unit, record.assignment_probability) == (unit_of("default", "ann", "r"), 1.0)
    assert (record.output, record.error, record.provenance.adapter_digest) == ("hello", None, "d1")


async def test_an_engine_that_fails_before_the_first_token_is_made_up_for_by_another() -> None:
    rig = Rig(STABLE)
    rig.engine("a", fails(AWAY), "d1")
    rig.engine("b", says("ok"), "d1")
    texts = [chunk.text async for _, chunk in rig.stream(query())]
    assert texts == ["ok"]
    assert [record.error for record in rig.log.records] == [None]


async def test_an_engine_that_comes_back_in_time_is_waited_for() -> None:
    rig = Rig(STABLE)
    rig.engine("a", lambda _: ("back",) if rig.tables.waits > 3 else (AWAY,), "d1")
    assert (await rig.whole(query()))[1].text == "back"


async def test_nobody_is_waited_for_longer_than_the_admission_time() -> None:
    rig = Rig(STABLE, wait=0.0)
    with pytest.raises(Unavailable) as refused:
        await rig.whole(query())
    assert refused.value.reason == "NO_ENGINE"
    assert rig.log.records[0].error == "NO_ENGINE"


async def test_a_whole_answer_survives_an_engine_lost_half_way() -> None:
    rig = Rig(STABLE)
    rig.engine("a", fails(AWAY, "half"), "d1")
    rig.engine("b", says("whole"), "d1")
    assert (await rig.whole(query()))[1].text == "whole"
    assert rig.log.records[0].output == "whole"


async def test_a_stream_that_has_begun_does_not_begin_again() -> None:
    rig = Rig(STABLE)
    rig.engine("a", fails(AWAY, "half"), "d1")
    rig.engine("b", says("whole"), "d1")
    with pytest.raises(Unavailable):
        _ = [piece async for piece in rig.stream(query())]
    assert [address for address, _ in rig.engines.calls] == ["a"]
    assert (rig.log.records[0].output, rig.log.records[0].error) == ("half", "UNAVAILABLE")


async def test_the_callers_mistake_is_not_tried_elsewhere_and_not_held_against_the_version() -> None:
    rig = Rig(STABLE)
    rig.engine("a", fails(InvalidInput("too long", field="messages")), "d1")
    rig.engine("b", says("ok"), "d1")
    with pytest.raises(InvalidInput):
        await rig.whole(query())
    assert len(rig.engines.calls) == 1
    assert rig.log.records == []


async def test_a_canary_that_cannot_answer_is_stood_in_for_and_blamed() -> None:
    rig = Rig(arm(1, Role.STABLE, 0.0), arm(2, Role.CANARY, 1.0))
    rig.engine("a", lambda inquiry: (AWAY,) if inquiry.digest == "d2" else ("stand-in",), "d1", "d2")
    rig.engine("b", says("stand-in"), "d1")
    generation, chunk = await rig.whole(query())
    assert (generation.version, chunk.text) == ("t@1", "stand-in")
    canary, stable = rig.log.records
    assert (canary.role, canary.version, canary.error, canary.pair_id) == (Role.CANARY, 2, "UNAVAILABLE", "r")
    assert (stable.role, stable.request_id, stable.output) == (Role.STABLE, "r", "stand-in")
    assert stable.explicit, "a stand-in was not assigned by chance"


async def test_a_canary_on_no_engine_is_stood_in_for_at_once() -> None:
    rig = Rig(arm(1, Role.STABLE, 0.0), arm(2, Role.CANARY, 1.0))
    rig.engine("a", says("stand-in"), "d1")
    await rig.whole(query())
    assert rig.tables.waits == 0
    assert rig.log.records[0].error == "VERSION_NOT_ROUTABLE"


async def test_a_stream_ends_on_the_version_it_began_with_when_the_route_flips() -> None:
    rig = Rig(STABLE)
    rig.engine("a", says("one ", "two ", "three"), "d1", "d2")
    stream = rig.stream(query())
    first = await anext(stream)
    rig.tables.current = rig.tables.current.model_copy(update={"arms": (arm(2, Role.STABLE, 1.0),), "generation": 8})
    rest = [piece async for piece in stream]
    assert {generation.version for generation, _ in (first, *rest)} == {"t@1"}
    assert (rig.log.records[0].version, rig.log.records[0].generation) == (1, 7)


async def test_a_shadow_mirrors_the_stable_answer_after_it_and_behind_it() -> None:
    rig = Rig(STABLE, arm(2, Role.SHADOW), shadow_rate=1.0)
    rig.engine("a", lambda inquiry: (f"by {inquiry.digest}",), "d1", "d2")
    assert (await rig.whole(query()))[1].text == "by d1"
    await eventually(lambda: len(rig.log.records) == 2)
    shadow = rig.log.records[1]
    assert (shadow.role, shadow.version, shadow.pair_id, shadow.output) == (Role.SHADOW, 2, "r", "by d2")
    assert shadow.request_id != "r"
    priorities = [inquiry.priority for _, inquiry in rig.engines.calls]
    assert priorities[0] < priorities[1]


async def test_shadows_beyond_their_number_are_dropped() -> None:
    rig = Rig(STABLE, arm(2, Role.SHADOW), shadow_rate=1.0, shadows=0)
    rig.engine("a", says("x"), "d1", "d2")
    await rig.whole(query())
    await asyncio.sleep(0)
    assert len(rig.engines.calls) == 1


async def test_nothing_is_mirrored_while_users_need_the_engine() -> None:
    rig = Rig(STABLE, arm(2, Role.SHADOW), shadow_rate=1.0, busy=0)
    rig.engine("a", says("x"), "d1", "d2")
    await rig.whole(query())
    await asyncio.sleep(0)
    assert len(rig.engines.calls) == 1


async def test_what_an_answer_and_its_shadow_used_is_on_the_tenants_bill() -> None:
    rig = Rig(STABLE, arm(2, Role.SHADOW), shadow_rate=1.0)
    rig.engine("a", says("one", "two"), "d1", "d2")
    rig.tables.reports[0] = rig.tables.reports[0].model_copy(update={"hourly_cost": 3600.0})
    await rig.whole(query())
    await eventually(lambda: len(rig.ledger.held) == 2)
    told = {(key.tenant, key.task, key.version, key.purpose): use for key, use in rig.ledger.held.items()}
    for version, purpose in ((1, "use"), (2, "shadow")):
        use = told["default", "t", version, purpose]
        assert (use.answers, use.prompt_tokens, use.completion_tokens) == (1, 3, 2)
        assert (use.engine_seconds, use.cost) == (1.5, 1.5)


async def test_an_answer_broken_off_is_not_free() -> None:
    rig = Rig(STABLE)
    rig.engine("a", says("x" * 40, "two"), "d1")
    stream = rig.stream(query())
    await anext(stream)
    await stream.aclose()
    (use,) = rig.ledger.held.values()
    assert (use.answers, use.completion_tokens, use.engine_seconds) == (1, 10, 1.5)


async def test_a_version_in_nobodys_memory_is_asked_of_an_engine_that_can_load_it() -> None:
    rig = Rig(STABLE)
    rig.engine("loads", says("loaded"), "other")
    rig.tables.reports[0] = rig.tables.reports[0].model_copy(update={"cold": ("d1",)})
    assert (await rig.whole(query()))[1].text == "loaded"
    rig.engine("holds", says("held"), "d1")
    assert (await rig.whole(query()))[1].text == "held"


async def test_an_evaluation_yields_to_users_and_is_not_in_the_log() -> None:
    rig = Rig(STABLE, arm(2, Role.CANDIDATE), shadow_rate=1.0)
    rig.engine("a", says("x"), "d1", "d2")
    await rig.whole(query(model="t@2", purpose=Purpose.EVALUATION), EVALUATOR)
    assert rig.log.records == []
    assert rig.engines.calls[0][1].priority > 0


async def test_one_request_too_many_is_refused_as_busy() -> None:
    rig = Rig(STABLE)
    rig.engine("a", says("x"), "d1")
    rig.engines.hold.clear()
    running = [asyncio.create_task(rig.whole(query(request_id=f"r{n}"))) for n in range(2)]
    await eventually(lambda: len(rig.engines.calls) == 2)
    with pytest.raises(Busy):
        await rig.whole(query())
    rig.engines.hold.set()
    await asyncio.gather(*running)


async def test_an_answer_that_the_client_broke_off_is_recorded_without_blame() -> None:
    rig = Rig(STABLE)
    rig.engine("a", says("one", "two"), "d1")
    stream = rig.stream(query())
    await anext(stream)
    await stream.aclose()
    (record,) = rig.log.records
    assert (record.output, record.error, record.finish_reason) == ("one", None, "")
