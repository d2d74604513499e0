"""Rankings from pairs."""

import math

import numpy as np
import pytest

from libs.contracts.errors import InvalidInput
from libs.statistics.ranking import Comparison, Ranking, bradley_terry, davidson

# dustalov/evalica food.csv and simple.csv with the scores of its food-golden.csv and simple-golden.csv.
FOOD = """
PizzaSushi< BurgerPasta> TacosPizza< SushiTacos> BurgerPizza< PastaSushi> TacosBurger< PizzaPasta= SushiBurger>
PastaTacos< BurgerSushi> TacosPizza< SushiPasta= BurgerTacos< PizzaBurger> PastaTacos> BurgerSushi> TacosPasta<
PizzaTacos> SushiBurger< PastaPizza> BurgerSushi> TacosPasta< PizzaSushi< SushiBurger> PastaTacos> TacosPizza<
BurgerPasta> SushiTacos< PizzaBurger>"""
SIMPLE = "01= 02> 02= 04= 10< 12= 12= 13= 24= 30< 31< 32< 34= 34= 40< 43<"
FOOD_BT = {"Tacos": 0.43428982771223773, "Sushi": 0.19060028489839073, "Burger": 0.14797665121689418,
           "Pasta": 0.1281534106031957, "Pizza": 0.09897982556928168}  # fmt: skip
SIMPLE_BT = {"4": 0.34947527489923, "3": 0.33688868041573855, "2": 0.13168568070110523, "1": 0.1311506914535368,
             "0": 0.050799672530389396}  # fmt: skip
FOOD_TIES = {"Tacos": 2.6652107229187254, "Sushi": 1.0906271591531849, "Burger": 0.8296600883232509,
             "Pasta": 0.7101537820870093, "Pizza": 0.536812511441843}  # fmt: skip
SIMPLE_TIES = {"4": 13.03674474236858, "3": 12.805770244756038, "2": 0.4814190342801864, "1": 0.4802400245305803,
               "0": 0.017973592758248474}  # fmt: skip


def parse(text: str, names: tuple[str, ...]) -> list[Comparison]:
    found = []
    for one in text.split():
        left = next(name for name in names if one.startswith(name))
        right, sign = one[len(left) : -1], one[-1]
        found.append(Comparison(left, right, {"<": 1.0, ">": 0.0, "=": 0.5}[sign]))
    return found


GOLDEN = [
    (parse(FOOD, ("Pizza", "Sushi", "Burger", "Pasta", "Tacos")), FOOD_BT, FOOD_TIES),
    (parse(SIMPLE, tuple("01234")), SIMPLE_BT, SIMPLE_TIES),
]


def shares(ranking: Ranking) -> dict[str, float]:
    worth = {arm: math.exp(strength.value) for arm, strength in ranking.strengths.items()}
    return {arm: value / sum(worth.values()) for arm, value in worth.items()}


@pytest.mark.parametrize(("comparisons", "half", "ties"), GOLDEN)
def test_strengths_are_those_of_evalica(
    comparisons: list[Comparison], half: dict[str, float], ties: dict[str, float]
) -> None:
    assert shares(bradley_terry(comparisons)) == pytest.approx(half, rel=2e-5)
    assert bradley_terry(comparisons).arms == tuple(half)
    # Newman 2023 has Davidson's model with another name for the tie parameter, and another scale.
    whole = sum(ties.values())
    assert shares(davidson(comparisons)) == pytest.approx({arm: v / whole for arm, v in ties.items()}, rel=2e-3)


@pytest.mark.parametrize("ties", [0.0, 0.8])
def test_intervals_cover(ties: float) -> None:
    rng = np.random.default_rng(1)
    truth = np.array([0.6, 0.2, -0.3, -0.5])
    covered, beaten = [], []
    for _ in range(80):
        comparisons = []
        for _ in range(150):
            i, j = rng.choice(4, 2, replace=False)
            weights = np.array([math.exp((truth[i] - truth[j]) / 2), ties, math.exp((truth[j] - truth[i]) / 2)])
            outcome = (1.0, 0.5, 0.0)[rng.choice(3, p=weights / weights.sum())]
            comparisons.append(Comparison("abcd"[i], "abcd"[j], outcome))
        found = davidson(comparisons) if ties else bradley_terry(comparisons)
        for arm, strength in zip("abcd", truth, strict=True):
            covered.append(found.strengths[arm].low <= strength <= found.strengths[arm].high)
        one = found.beats("a", "d")
        beaten.append(one.low <= 1 / (1 + math.exp(-1.1)) <= one.high)
    assert np.mean(covered) >= 0.93
    assert np.mean(beaten) >= 0.92


def test_votes_on_one_item_count_as_one() -> None:
    votes = [Comparison("a", "b", float(n % 3 > 0), cluster=n) for n in range(60)]
    repeated = [vote for vote in votes for _ in range(4)]
    once, often = (bradley_terry(some).strengths["a"] for some in (votes, repeated))
    assert often.low == pytest.approx(once.low, abs=1e-3)


def test_an_arm_that_never_lost_has_no_strength_on_the_same_scale() -> None:
    with pytest.raises(InvalidInput, match="no chain of wins leads from b to a"):
        bradley_terry([Comparison("a", "b", 1.0)] * 5)
    with pytest.raises(InvalidInput, match="two arms"):
        bradley_terry([])
    with pytest.raises(InvalidInput, match="outcome"):
        davidson([Comparison("a", "b", 0.7), Comparison("b", "a", 1.0)])
