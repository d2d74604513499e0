"""What a key may use, by a clock of the test's own."""

from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.contracts.errors import Busy, PermissionDenied
from libs.contracts.routes import KeyLimits, KeyRole
from services.serving.gateway.domain import Caller, Quotas


def caller(name: str = "shop", tasks: tuple[str, ...] = (), **limits: Any) -> Caller:
    return Caller(name, "default", frozenset({KeyRole.CLIENT}), KeyLimits(**limits), tasks)


def ask(quotas: Quotas, who: Caller, now: float, tokens: int = 0) -> None:
    with quotas.admit(who, now):
        quotas.charge(who, tokens, now)


def test_one_request_too_many_is_told_when_to_come_back() -> None:
    quotas, shop = Quotas(), caller(requests_per_minute=6)
    for _ in range(6):
        ask(quotas, shop, 0.0)
    with pytest.raises(Busy) as refused:
        ask(quotas, shop, 1.0)
    assert (refused.value.reason, refused.value.metadata["retry_after"]) == ("KEY_REQUESTS", "9")
    ask(quotas, shop, 10.0)


def test_keys_do_not_pay_for_one_another() -> None:
    quotas = Quotas()
    ask(quotas, caller("a", requests_per_minute=1), 0.0)
    ask(quotas, caller("b", requests_per_minute=1), 0.0)
    with pytest.raises(Busy):
        ask(quotas, caller("a", requests_per_minute=1), 0.0)


@pytest.mark.parametrize(
    ("limit", "reason", "seconds"),
    [("tokens_per_minute", "KEY_TOKENS", 60), ("tokens_per_day", "KEY_TOKENS_DAILY", 86_400)],
)
def test_an_answer_is_paid_from_the_future_where_it_was_more_than_what_was_left(
    limit: str, reason: str, seconds: int
) -> None:
    limits: dict[str, Any] = {limit: 100}
    quotas, shop = Quotas(), caller(**limits)
    ask(quotas, shop, 0.0, tokens=200)
    with pytest.raises(Busy) as refused:
        ask(quotas, shop, 0.0)
    assert (refused.value.reason, int(refused.value.metadata["retry_after"])) == (reason, seconds)
    ask(quotas, shop, seconds + 1.0)


def test_requests_at_once_are_counted_while_they_run() -> None:
    quotas, shop = Quotas(), caller(in_flight=2)
    with ExitStack() as held:
        held.enter_context(quotas.admit(shop, 0.0))
        held.enter_context(quotas.admit(shop, 0.0))
        with pytest.raises(Busy), quotas.admit(shop, 0.0):
            pass
    with quotas.admit(shop, 0.0):
        pass


def test_a_limit_that_changed_holds_at_once() -> None:
    quotas = Quotas()
    ask(quotas, caller(requests_per_minute=1), 0.0)
    ask(quotas, caller(requests_per_minute=5), 0.0)


@given(gaps=st.lists(st.floats(0, 5), min_size=1, max_size=60), limit=st.integers(1, 30))
def test_never_more_than_the_limit_and_one_period_saved_up_get_in(gaps: list[float], limit: int) -> None:
    quotas, shop = Quotas(), caller(requests_per_minute=limit)
    now, entered = 0.0, 0
    waits: list[int] = []
    for gap in gaps:
        now += gap
        try:
            ask(quotas, shop, now)
            entered += 1
        except Busy as refusal:
            waits.append(int(refusal.metadata["retry_after"]))
    assert all(each >= 1 for each in waits)
    assert entered <= limit + now * limit / 60 + 1e-6


def test_a_key_asks_the_tasks_it_was_given() -> None:
    given_one = caller(tasks=("triage",))
    given_one.entitled("triage")
    with pytest.raises(PermissionDenied):
        given_one.entitled("billing")
    caller().entitled("billing")
