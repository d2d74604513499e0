"""What `pawl usage` adds up."""

from libs.contracts.stubs.pawl.serving.v1.operations_pb2 import UsageLine
from pawl.cli.fleet import grouped


def test_use_adds_up_by_the_fields_named_in_their_order() -> None:
    lines = [
        UsageLine(day="2026-01-01", task="a", version=1, answers=1, prompt_tokens=10, engine_seconds=0.5, cost=0.25),
        UsageLine(day="2026-01-02", task="a", version=1, answers=2, completion_tokens=4, engine_seconds=1.5),
        UsageLine(day="2026-01-02", task="b", version=3, answers=5),
    ]
    assert grouped(lines, ["version", "task"]) == [
        (("1", "a"), (3.0, 10.0, 4.0, 2.0, 0.25)),
        (("3", "b"), (5.0, 0.0, 0.0, 0.0, 0.0)),
    ]
