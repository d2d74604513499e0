"""The loop turns from imported rows to a version that answers, though a process is killed on the way."""

import httpx
import pytest

from libs.telemetry import trace_id
from tests.e2e.promotion import TASK, Promotion
from tests.e2e.stack import RunningStack


@pytest.mark.slow
@pytest.mark.timeout(720)
def test_a_turn_ends_in_a_promotion_and_no_answer_fails_though_a_process_is_killed(promotion: Promotion) -> None:
    assert promotion.turn.state == "promoted", f"{promotion.killed} was killed; {promotion.turn.reason}"
    assert promotion.tally.requests > 0
    assert promotion.tally.failed == 0, promotion.tally.errors


@pytest.mark.slow
@pytest.mark.timeout(720)
def test_what_was_promoted_answers_under_its_own_name_and_digest(stack: RunningStack, promotion: Promotion) -> None:
    told = stack.status()
    reply = httpx.post(
        f"{told['endpoints']['http']}/chat/completions",
        json={"model": TASK, "messages": [{"role": "user", "content": "where is it?"}], "max_tokens": 4},
        headers={"authorization": f"Bearer {told['api_key']}"},
        timeout=60,
    ).raise_for_status()
    assert reply.json()["model"] == f"{TASK}@{promotion.version.number}"
    assert reply.json()["pawl"]["adapter_digest"] == promotion.version.digest
    assert reply.json()["pawl"]["turn_trace_id"] == trace_id(promotion.turn.traceparent)


@pytest.mark.slow
@pytest.mark.timeout(720)
def test_nothing_that_was_killed_left_a_child_behind(stack: RunningStack, promotion: Promotion) -> None:
    assert stack.orphans() == [], promotion.killed
