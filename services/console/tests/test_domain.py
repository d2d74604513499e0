"""What is worked out for a page."""

import json
from datetime import UTC, datetime

from services.console.domain import HEIGHT, WIDTH, progress_of, report_of, road_of, sparkline, trace_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_sparkline_stays_inside_its_box() -> None:
    line = sparkline([(step, 5 / step) for step in range(1, 200)])
    assert line is not None
    for point in line.points.split():
        across, down = map(float, point.split(","))
        assert 0 <= across <= WIDTH
        assert 0 <= down <= HEIGHT


def test_a_flat_curve_and_a_broken_one_are_drawn_too() -> None:
    assert sparkline([(1, 1.0), (2, 1.0)]) is not None
    assert sparkline([(1, float("nan")), (2, 1.0)]) is None
    assert sparkline([]) is None


def test_a_turn_that_ended_badly_shows_where_and_has_nothing_ahead() -> None:
    road = road_of([("curating", "", NOW), ("training", "", NOW), ("failed", "out of memory", NOW)], "failed")
    assert [(mile.state, mile.look) for mile in road] == [("curating", "done"), ("training", "done"), ("failed", "bad")]


def test_a_promoted_turn_is_all_done() -> None:
    road = road_of([("canary", "", NOW), ("promoted", "", NOW)], "promoted")
    assert [mile.look for mile in road] == ["done", "done"]


def test_what_cannot_be_read_is_left_out() -> None:
    assert progress_of("") is None
    assert progress_of("not json") is None
    assert report_of(json.dumps({"run": {}}), 1) is None
    assert trace_of("") == ""
