"""The drop detector may watch for ever."""

import random

import pytest

from libs.contracts.errors import InvalidInput
from libs.statistics.detector import DropDetector
from libs.statistics.simulate.peeking import drops


def test_false_alarms_are_as_rare_as_promised() -> None:
    between, _ = drops(0.9, 500.0, 0.9, 0.9, change=10**9, until=5000, runs=200, seed=1)
    assert between >= 500.0


@pytest.mark.parametrize(("after", "within"), [(0.8, 140), (0.6, 40)])
def test_a_drop_is_found_soon(after: float, within: int) -> None:
    _, delay = drops(0.9, 1000.0, 0.95, after, change=300, until=3000, runs=300, seed=2)
    assert delay <= within


def test_the_simulation_does_what_the_detector_does() -> None:
    draw, found = random.Random(7), []
    for _ in range(100):
        detector, unit = DropDetector(0.9, 200.0), 0
        while not detector.update(float(draw.random() < 0.8)):
            unit += 1
        found.append(unit + 1)
    mean, _ = drops(0.9, 200.0, 0.8, 0.8, change=0, until=3000, runs=2000, seed=3)
    assert sum(found) / 100 == pytest.approx(mean, rel=0.25)


def test_it_says_since_when() -> None:
    detector = DropDetector(0.9, 1000.0)
    assert not detector.extend([1.0] * 200)
    assert detector.extend([0.0, 1.0] * 20)
    assert detector.alarm_at is not None
    assert detector.alarm_at <= 230
    assert detector.since == pytest.approx(40, abs=3)
    assert detector.log_evidence > detector.threshold


def test_replayed_or_resumed_it_says_the_same() -> None:
    draw = random.Random(1)
    scores = [float(draw.random() < 0.85) for _ in range(300)]
    whole, first = DropDetector(0.9, 1e6), DropDetector(0.9, 1e6)
    whole.extend(scores)
    first.extend(scores[:137])
    second = DropDetector(0.9, 1e6, first.state)
    second.extend(scores[137:])
    assert second.state == whole.state
    assert whole.state.seen == 300


def test_impossible_input_is_refused() -> None:
    with pytest.raises(InvalidInput, match="floor"):
        DropDetector(1.0, 100.0)
    with pytest.raises(InvalidInput, match="one unit"):
        DropDetector(0.5, 1.0)
    with pytest.raises(InvalidInput, match="lie in"):
        DropDetector(0.5, 10.0).update(2.0)
