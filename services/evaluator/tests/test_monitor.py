"""Live evidence: shadow pairs, canary windows, restarts and redelivery."""

import asyncio
from typing import Any

from sqlalchemy import update

from libs.contracts.estimates import Verdict
from libs.contracts.events import Assessment
from libs.contracts.inference import Role, Signal
from libs.eventing.connection import NatsLink
from libs.testing.wait import eventually
from services.evaluator.domain.evidence import Watch
from services.evaluator.store.tables import requests, windows
from services.evaluator.tests.conftest import Evaluator, House
from services.evaluator.tests.support import TRACE, Facts, Traffic, right, send, wrong


async def watching(evaluator: Evaluator, generation: int) -> Watch:
    async def look() -> Any:
        found = evaluator.monitor.open_watches()
        return found[0] if found and found[0].generation == generation else None

    found: Watch = await eventually(look)
    return found


async def assessed(evaluator: Evaluator, facts: Facts, check: Any, timeout: float = 15.0) -> Assessment:
    async def look() -> Any:
        await evaluator.monitor.tick()
        found = [envelope.data for envelope in await facts.of(Assessment)]
        return next((fact for fact in reversed(found) if check(fact)), None)

    found: Assessment = await eventually(look, timeout, every=0.1)
    return found


async def counted(evaluator: Evaluator, watch: Watch, role: str, number: int) -> None:
    async def look() -> bool:
        return (await evaluator.ledger.tally(watch)).requests.get(role, 0) >= number

    await eventually(look)


async def test_a_better_challenger_passes_its_shadow(evaluator: Evaluator, traffic: Traffic, facts: Facts) -> None:
    await traffic.rollout("shadow", 5)
    await watching(evaluator, 5)
    for number in range(30):
        stable = wrong(number) if number % 2 else right(number)
        await traffic.pair(stable, right(number), reference=right(number))
    verdict = await assessed(evaluator, facts, lambda fact: fact.pairs == 30)
    assert verdict.verdict is Verdict.PASS
    assert (verdict.wins, verdict.losses, verdict.ties) == (15, 0, 15)
    assert "superior" in verdict.reason
    assert verdict.requests == {"stable": 30, "shadow": 30}
    assert verdict.inference_cursor == 60
    envelope = (await facts.of(Assessment))[-1]
    assert envelope.turn_id == "turn-1"
    assert envelope.traceparent.split("-")[1] == TRACE.split("-")[1]


async def test_a_worse_challenger_fails_its_shadow(evaluator: Evaluator, traffic: Traffic, facts: Facts) -> None:
    await traffic.rollout("shadow", 5)
    await watching(evaluator, 5)
    for number in range(20):
        await traffic.pair(right(number), wrong(number), reference=right(number))
    verdict = await assessed(evaluator, facts, lambda fact: fact.verdict is not Verdict.INCONCLUSIVE)
    assert verdict.verdict is Verdict.FAIL
    assert "inferior" in verdict.reason


async def test_a_challenger_that_breaks_the_schema_fails_without_any_feedback(
    evaluator: Evaluator, traffic: Traffic, facts: Facts
) -> None:
    await traffic.rollout("shadow", 5)
    await watching(evaluator, 5)
    for number in range(20):
        await traffic.pair(right(number), "no json at all", reference=None)
    verdict = await assessed(evaluator, facts, lambda fact: fact.verdict is Verdict.FAIL)
    assert verdict.pairs == 0


async def test_agreement_that_nobody_judged_shows_nothing(evaluator: Evaluator, traffic: Traffic, facts: Facts) -> None:
    await traffic.rollout("shadow", 5)
    watch = await watching(evaluator, 5)
    await asyncio.gather(*(traffic.pair(right(number), right(number), reference=None) for number in range(120)))
    await counted(evaluator, watch, "shadow", 120)
    verdict = await assessed(evaluator, facts, lambda fact: fact.requests.get("shadow") == 120)
    assert verdict.verdict is Verdict.INCONCLUSIVE
    assert verdict.pairs == 0


async def test_explicit_requests_and_other_versions_do_not_count(
    evaluator: Evaluator, traffic: Traffic, link: NatsLink
) -> None:
    await traffic.rollout("shadow", 5)
    watch = await watching(evaluator, 5)
    await send(link, traffic.inference(Role.STABLE, right(1), explicit=True))
    await send(link, traffic.inference(Role.CANDIDATE, right(1)))
    await send(link, traffic.inference(Role.STABLE, right(1), version=9))
    await send(link, traffic.inference(Role.STABLE, right(1), generation=4))
    await send(link, traffic.inference(Role.STABLE, right(1)))
    await counted(evaluator, watch, "stable", 1)
    assert (await evaluator.ledger.tally(watch)).requests == {"stable": 1}


async def test_what_is_delivered_twice_counts_once(
    evaluator: Evaluator, traffic: Traffic, link: NatsLink, facts: Facts
) -> None:
    await traffic.rollout("shadow", 5)
    watch = await watching(evaluator, 5)
    asked = await traffic.pair(wrong(1), right(1), reference=right(1))
    await send(link, asked)
    await send(link, traffic.outcome(asked, right(1)))
    await send(link, traffic.outcome(asked, wrong(1), feedback_id="another"))

    async def read() -> bool:
        tally = await evaluator.ledger.tally(watch)
        return tally.mark.inference_cursor == 3 and tally.mark.outcome_cursor == 3

    await eventually(read)
    verdict = await assessed(evaluator, facts, lambda fact: fact.pairs == 1)
    assert (verdict.wins, verdict.requests["stable"]) == (1, 1)


async def test_a_harmful_canary_is_found_and_stays_found(evaluator: Evaluator, traffic: Traffic, facts: Facts) -> None:
    await traffic.rollout("canary", 7, 0.05)
    watch = await watching(evaluator, 7)
    for number in range(12):
        await traffic.window(Role.CANARY, 0.05, bad=True, generation=7)
        await traffic.window(Role.STABLE, 0.05, bad=number % 4 == 0, generation=7)
    verdict = await assessed(evaluator, facts, lambda fact: fact.verdict is Verdict.FAIL)
    assert verdict.e_value >= 100
    assert verdict.bad_windows["canary"] >= 2
    assert "harm" in verdict.reason
    for _ in range(40):
        await traffic.window(Role.STABLE, 0.05, bad=True, generation=7)
    await counted(evaluator, watch, "stable", 52)
    later = await assessed(evaluator, facts, lambda fact: fact.windows.get("stable", 0) == 52)
    assert later.verdict is Verdict.FAIL


async def test_harm_to_one_segment_is_told_though_the_whole_is_fine(
    evaluator: Evaluator, traffic: Traffic, facts: Facts
) -> None:
    await traffic.rollout("canary", 7, 0.25)
    await watching(evaluator, 7)
    for _ in range(9):
        await traffic.window(Role.CANARY, 0.25, bad=True, generation=7, segment="clinics")
        await traffic.window(Role.CANARY, 0.25, bad=False, generation=7, segment="retail")
        for _ in range(4):
            await traffic.window(Role.STABLE, 0.25, bad=True, generation=7, segment="retail")
    verdict = await assessed(evaluator, facts, lambda fact: fact.windows == {"canary": 18, "stable": 36}, timeout=30)
    assert verdict.verdict is Verdict.PASS, verdict.reason
    assert verdict.segments["clinics"].verdict is Verdict.FAIL
    assert verdict.segments["clinics"].windows == verdict.segments["clinics"].bad_windows == {"canary": 9}
    assert verdict.segments["retail"].verdict is Verdict.INCONCLUSIVE
    assert sum(each.alpha for each in verdict.segments.values()) < verdict.alpha
    assert {check.finding for check in await evaluator.ledger.verify("triage")} == {"equal"}


async def test_an_answer_that_its_client_broke_off_is_not_an_invalid_one(
    evaluator: Evaluator, traffic: Traffic, facts: Facts
) -> None:
    await traffic.rollout("canary", 7, 0.05)
    await watching(evaluator, 7)
    await traffic.window(Role.CANARY, 0.05, bad=True, generation=7, finish_reason="")
    await traffic.window(Role.CANARY, 0.05, bad=True, generation=7)
    verdict = await assessed(evaluator, facts, lambda fact: fact.windows.get("canary", 0) == 2)
    assert verdict.bad_windows == {"canary": 1}


async def test_a_request_that_failed_and_then_was_answered_is_no_harm(
    evaluator: Evaluator, traffic: Traffic, facts: Facts, link: NatsLink
) -> None:
    await traffic.rollout("canary", 7, 0.05)
    watch = await watching(evaluator, 7)
    for request_id, tries in (("again", ("UNAVAILABLE", None)), ("never", ("UNAVAILABLE", "UNAVAILABLE"))):
        for error in tries:
            failed: dict[str, Any] = {"error": error, "finish_reason": ""} if error else {}
            fact = traffic.inference(
                Role.CANARY, "" if error else right(1), generation=7, assignment_probability=0.05,
                request_id=request_id, unit=request_id, **failed,
            )  # fmt: skip
            await send(link, fact)
    verdict = await assessed(evaluator, facts, lambda fact: fact.windows.get("canary", 0) == 2)
    assert verdict.bad_windows == {"canary": 1}
    assert verdict.requests == {"canary": 2}
    assert await evaluator.ledger.misjudged(watch.turn_id) == []


async def test_a_pair_that_one_side_broke_off_is_no_pair(
    evaluator: Evaluator, traffic: Traffic, facts: Facts, link: NatsLink
) -> None:
    await traffic.rollout("shadow", 5)
    watch = await watching(evaluator, 5)
    asked = traffic.inference(Role.STABLE, right(1), request_id="asked")
    half = traffic.inference(Role.SHADOW, right(1)[:4], pair_id="asked", unit=asked.unit, finish_reason="")
    for event in (asked, half, traffic.outcome(asked, right(1))):
        await send(link, event)
    await counted(evaluator, watch, "shadow", 1)
    await traffic.pair(wrong(1), right(1), reference=right(1))
    verdict = await assessed(evaluator, facts, lambda fact: fact.requests.get("shadow") == 2 and fact.pairs)
    assert (verdict.pairs, verdict.wins, verdict.losses) == (1, 1, 0)


async def test_every_assessment_can_be_computed_again_from_the_ledger_alone(
    evaluator: Evaluator, traffic: Traffic, facts: Facts, link: NatsLink
) -> None:
    await traffic.rollout("shadow", 5)
    await watching(evaluator, 5)
    for number in range(12):
        await traffic.pair(wrong(number), right(number), reference=right(number))
        if number % 4 == 0:
            await assessed(evaluator, facts, lambda fact, least=number: fact.pairs > least)
    await traffic.rollout("canary", 7, 0.05)
    await watching(evaluator, 7)
    blamed = await traffic.window(Role.CANARY, 0.05, bad=False, generation=7)
    await send(link, traffic.outcome(blamed, None, kind="rating", signal=Signal.BAD))
    await assessed(evaluator, facts, lambda fact: fact.bad_windows.get("canary") == 1)
    # What comes later must not change what was seen.
    await traffic.window(Role.CANARY, 0.05, bad=True, generation=7)
    await assessed(evaluator, facts, lambda fact: fact.bad_windows.get("canary") == 2)
    checks = await evaluator.ledger.verify("triage")
    assert len(checks) >= 5
    assert {check.finding for check in checks} == {"equal"}
    async with evaluator.database.transaction() as session:
        await session.execute(update(requests).where(requests.c.role == "shadow").values(answer_digest="forged"))
        await session.execute(update(windows).where(windows.c.number == 1).values(bad=False))
    checks = await evaluator.ledger.verify("triage", "turn-1")
    assert any("wins: published" in line for check in checks for line in check.differences)
    assert any("window 1 was judged good" in line for check in checks for line in check.differences)


async def test_a_harmless_canary_passes_each_step_on_windows_of_its_own(
    evaluator: Evaluator, traffic: Traffic, facts: Facts
) -> None:
    await traffic.rollout("canary", 7, 0.05)
    await watching(evaluator, 7)
    for _ in range(6):
        await traffic.window(Role.CANARY, 0.05, bad=False, generation=7)
    first = await assessed(evaluator, facts, lambda fact: fact.verdict is Verdict.PASS)
    assert (first.generation, first.windows) == (7, {"canary": 6})
    await traffic.rollout("canary", 8, 0.5)
    await watching(evaluator, 8)
    await traffic.window(Role.CANARY, 0.5, bad=False, generation=8)
    second = await assessed(evaluator, facts, lambda fact: fact.generation == 8 and fact.windows)
    assert second.verdict is Verdict.INCONCLUSIVE
    assert second.windows == {"canary": 1}


async def test_evidence_of_harm_is_carried_across_steps_and_a_user_counts_once(
    evaluator: Evaluator, traffic: Traffic, facts: Facts
) -> None:
    await traffic.rollout("canary", 7, 0.05)
    watch = await watching(evaluator, 7)
    for unit in ("ann", "bob", "ann"):
        await traffic.window(Role.CANARY, 0.05, bad=True, generation=7, unit=unit)
    await counted(evaluator, watch, "canary", 3)
    first = await assessed(evaluator, facts, lambda fact: fact.bad_windows.get("canary") == 2)
    await traffic.rollout("canary", 8, 0.5)
    await watching(evaluator, 8)
    await traffic.window(Role.CANARY, 0.5, bad=True, generation=8, unit="ann")
    second = await assessed(evaluator, facts, lambda fact: fact.generation == 8 and fact.bad_windows)
    assert second.e_value == first.e_value > 1.0
    await traffic.window(Role.CANARY, 0.5, bad=True, generation=8, unit="cem")
    third = await assessed(evaluator, facts, lambda fact: fact.bad_windows.get("canary") == 2 and fact.generation == 8)
    assert third.e_value > second.e_value


async def test_blame_in_time_makes_a_window_bad_and_late_blame_does_not(
    evaluator: Evaluator, traffic: Traffic, facts: Facts, link: NatsLink
) -> None:
    await traffic.rollout("canary", 7, 0.05)
    watch = await watching(evaluator, 7)
    blamed = await traffic.window(Role.CANARY, 0.05, bad=False, generation=7)
    quiet = await traffic.window(Role.CANARY, 0.05, bad=False, generation=7)
    await send(link, traffic.outcome(blamed, None, kind="rating", signal=Signal.BAD))
    first = await assessed(evaluator, facts, lambda fact: fact.windows.get("canary") == 2)
    assert first.bad_windows == {"canary": 1}
    await send(link, traffic.outcome(quiet, None, kind="rating", signal=Signal.BAD))

    async def read() -> bool:
        return (await evaluator.ledger.tally(watch)).mark.outcome_cursor == 2

    await eventually(read)
    await evaluator.monitor.tick()
    assert (await evaluator.ledger.tally(watch)).bad_windows == {"canary": 1}


async def test_a_restarted_monitor_goes_on_with_the_same_evidence(
    house: House, traffic: Traffic, facts: Facts, link: NatsLink
) -> None:
    running = await house.start()
    await traffic.rollout("canary", 7, 0.05)
    await watching(running, 7)
    for number in range(6):
        await traffic.window(Role.CANARY, 0.05, bad=number < 2, generation=7)
    before = await assessed(running, facts, lambda fact: fact.windows.get("canary") == 6)
    await house.stop()
    await traffic.window(Role.STABLE, 0.05, bad=True, generation=7)
    again = await house.start()
    after = await assessed(again, facts, lambda fact: fact.windows.get("stable") == 1)
    assert after.windows["canary"] == 6
    assert 1.0 < after.e_value < before.e_value


async def test_a_promoted_or_rolled_back_version_is_watched_no_more(
    evaluator: Evaluator, traffic: Traffic, facts: Facts
) -> None:
    await traffic.rollout("shadow", 5)
    await watching(evaluator, 5)
    await traffic.rollout("rolled_back", 6)

    async def ended() -> bool:
        return not evaluator.monitor.open_watches()

    await eventually(ended)
    # A fact that comes late does not open an old stage again.
    await traffic.rollout("shadow", 4, turn="turn-0")
    await asyncio.sleep(0.3)
    assert not await evaluator.ledger.watches()
    before = len(await facts.of(Assessment))
    await evaluator.monitor.tick()
    assert len(await facts.of(Assessment)) == before


async def test_an_unchanged_ledger_is_not_assessed_again_at_once(
    evaluator: Evaluator, traffic: Traffic, facts: Facts
) -> None:
    await traffic.rollout("shadow", 5)
    await watching(evaluator, 5)
    await assessed(evaluator, facts, lambda fact: fact.verdict is Verdict.INCONCLUSIVE)
    for _ in range(5):
        await evaluator.monitor.tick()
    assert len(await evaluator.ledger.assessments("triage", 2)) == 1
