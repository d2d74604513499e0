"""Per-segment guardrails: what shows harm to one segment, and how often chance does."""

import random

import pytest

from libs.contracts.estimates import Verdict
from libs.contracts.inference import Role
from libs.contracts.task import CanarySpec
from services.evaluator.domain.segments import BUDGET, MOST, ClosedWindow, judge_segments

CANARY = CanarySpec(alpha=0.05)


def bad(segment: str, role: Role, number: int, rho: float = 0.25) -> list[ClosedWindow]:
    return [ClosedWindow(f"{segment}-{role}-{each}", role, rho, segment) for each in range(number)]


def harmed(windows: list[ClosedWindow]) -> set[str]:
    told = judge_segments(CANARY, windows, {})
    return {name for name, evidence in told.items() if evidence.verdict is Verdict.FAIL}


def test_harm_to_a_small_segment_is_not_outvoted_by_a_large_one() -> None:
    windows = [*bad("retail", Role.STABLE, 60), *bad("clinics", Role.CANARY, 9), *bad("retail", Role.CANARY, 2)]
    assert harmed(windows) == {"clinics"}


def test_a_segment_harmed_once_stays_harmed() -> None:
    windows = [*bad("clinics", Role.CANARY, 9), *bad("clinics", Role.STABLE, 80)]
    assert harmed(windows) == {"clinics"}


def test_one_user_shows_one_toss_of_the_coin() -> None:
    assert harmed(bad("clinics", Role.CANARY, 1) * 40) == set()


def test_who_names_no_segment_is_in_none() -> None:
    assert judge_segments(CANARY, bad("", Role.CANARY, 40), {}) == {}


def test_names_made_up_by_a_client_neither_fill_the_report_nor_take_the_budget_of_those_before() -> None:
    made_up = [each for number in range(500) for each in bad(f"made-up-{number}", Role.STABLE, 1)]
    told = judge_segments(CANARY, [*bad("clinics", Role.CANARY, 9), *made_up], {})
    assert len(told) == MOST
    assert told["clinics"].verdict is Verdict.FAIL
    assert sum(each.alpha for each in told.values()) < BUDGET * CANARY.alpha


@pytest.mark.parametrize("segments", [1, 6])
def test_a_harmless_canary_is_accused_in_any_segment_less_often_than_its_part_of_alpha(segments: int) -> None:
    rng, accused, runs = random.Random(segments), 0, 400
    for _ in range(runs):
        windows = [
            ClosedWindow(
                f"u{each}",
                Role.CANARY if rng.random() < 0.25 else Role.STABLE,
                0.25,
                f"s{rng.randrange(segments)}",
            )
            for each in range(240)
        ]
        accused += bool(harmed(windows))
    assert accused <= runs * BUDGET * CANARY.alpha
