"""Three verdicts, the minimum below which there is only one, and how many more items are needed."""

import numpy as np
import pytest

from libs.contracts.estimates import Verdict
from libs.statistics.gates import MINIMUM_CLUSTERS, MINIMUM_ITEMS, floor, more_needed, non_inferiority, superiority
from libs.statistics.paired import PairedDifference, paired_difference


def pairs(wins: int, losses: int, ties: int, clusters: list[int] | None = None) -> PairedDifference:
    return paired_difference(
        [1.0] * wins + [0.0] * losses + [1.0] * ties, [0.0] * wins + [1.0] * losses + [1.0] * ties, clusters
    )


def test_gates_have_three_verdicts() -> None:
    better, worse, unclear = pairs(60, 5, 35), pairs(5, 60, 35), pairs(20, 20, 60)
    assert superiority(better).verdict is Verdict.PASS
    assert superiority(worse).verdict is Verdict.FAIL
    assert superiority(unclear).verdict is Verdict.INCONCLUSIVE
    assert non_inferiority(unclear, 0.02).verdict is Verdict.INCONCLUSIVE
    assert non_inferiority(unclear, 0.2).verdict is Verdict.PASS
    assert non_inferiority(worse, 0.2).verdict is Verdict.FAIL
    assert floor(95, 100, 0.8).verdict is Verdict.PASS
    assert floor(60, 100, 0.8).verdict is Verdict.FAIL
    assert floor(80, 100, 0.8).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("wins", "losses"), [(50, 0), (30, 2), (12, 8), (0, 0), (0, 50)])
def test_fifty_items_never_decide_and_say_how_many_more_are_needed(wins: int, losses: int) -> None:
    difference = pairs(wins, losses, 50 - wins - losses)
    for decision in (superiority(difference), non_inferiority(difference, 0.05), floor(wins, 50, 0.5)):
        assert decision.verdict is Verdict.INCONCLUSIVE
        assert f"fewer than {MINIMUM_ITEMS} items" in decision.reason
        assert "more needed" in decision.reason


def test_many_items_in_few_groups_never_decide() -> None:
    difference = pairs(200, 5, 95, [i % 10 for i in range(300)])
    decision = superiority(difference)
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert f"fewer than {MINIMUM_CLUSTERS} independent groups" in decision.reason
    assert decision.more_needed is not None
    assert decision.more_needed >= 300


def test_no_items_decide_nothing() -> None:
    assert floor(0, 0, 0.8).verdict is Verdict.INCONCLUSIVE
    assert floor(0, 0, 0.8).more_needed == MINIMUM_ITEMS
    assert superiority(pairs(0, 0, 0)).verdict is Verdict.INCONCLUSIVE


def test_as_many_more_as_advised_decide_four_times_in_five() -> None:
    difference = pairs(18, 9, 73)
    more = more_needed(difference, 0.0)
    assert more is not None
    wanted = ((1.645 + 0.842) * difference.standard_error * 10 / 0.09) ** 2 - 100
    assert more == pytest.approx(wanted, rel=0.25)
    assert superiority(difference.scaled(1.0 + more / 100)).verdict is Verdict.PASS
    # So many items of a population like these, drawn again and again.
    rng, passed = np.random.default_rng(3), 0
    for won, lost, tied in rng.multinomial(100 + more, (0.18, 0.09, 0.73), size=400):
        passed += superiority(pairs(int(won), int(lost), int(tied))).verdict is Verdict.PASS
    assert 0.74 <= passed / 400 <= 0.9


def test_where_the_value_lies_on_the_bound_no_number_of_items_is_promised() -> None:
    decision = superiority(pairs(20, 20, 60))
    assert decision.more_needed is None
    assert "more items alone will not settle it" in decision.reason


def test_a_decision_says_its_numbers() -> None:
    reason = superiority(pairs(60, 5, 35)).reason
    assert "+0.550" in reason
    assert "60 won, 5 lost" in reason


def test_verdicts_and_p_values_agree() -> None:
    for wins in range(0, 40, 4):
        difference = pairs(wins, 12, 50)
        decision = superiority(difference, 0.05)
        assert (decision.verdict is Verdict.PASS) == (decision.p_value < 0.05)
        assert (decision.verdict is Verdict.FAIL) == (difference.p_less(0.05) < 0.05)
