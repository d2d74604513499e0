"""The order of training."""

from libs.contracts.task import recipe_of
from services.trainer.domain.plan import curve, learning_rate, plan_run

LENGTHS = [5 + (row * 37) % 200 for row in range(103)]
IDS = [f"row-{row}" for row in range(103)]


def test_an_epoch_sees_every_row_once() -> None:
    made = plan_run(IDS, LENGTHS, recipe_of(batch_size=8, epochs=1))
    assert sorted(row for step in made.steps for batch in step for row in batch) == list(range(103))
    assert made.total_steps == 13


def test_the_same_inputs_give_the_same_order_and_another_seed_another() -> None:
    recipe = recipe_of(batch_size=8, epochs=2, seed=1)
    assert plan_run(IDS, LENGTHS, recipe) == plan_run(IDS, LENGTHS, recipe)
    assert plan_run(IDS, LENGTHS, recipe).digest != plan_run(IDS, LENGTHS, recipe_of(batch_size=8, epochs=2)).digest


def test_rows_of_a_batch_are_of_similar_length() -> None:
    made = plan_run(IDS, LENGTHS, recipe_of(batch_size=8, epochs=1))
    padded = sum(max(LENGTHS[row] for row in batch) * len(batch) for step in made.steps for batch in step)
    assert padded < 1.15 * sum(LENGTHS)


def test_a_plan_is_cut_at_max_steps_and_by_a_fraction_of_an_epoch() -> None:
    assert plan_run(IDS, LENGTHS, recipe_of(batch_size=8, epochs=0.5)).total_steps == 7
    assert plan_run(IDS, LENGTHS, recipe_of(batch_size=8, epochs=9, max_steps=4)).total_steps == 4


def test_accumulation_puts_several_batches_into_a_step() -> None:
    made = plan_run(IDS, LENGTHS, recipe_of(batch_size=4, gradient_accumulation=2, epochs=1))
    assert made.total_steps == 13
    assert all(len(step) == 2 for step in made.steps)


def test_the_learning_rate_warms_up_then_falls_and_never_reaches_zero() -> None:
    recipe = recipe_of(learning_rate=1.0, warmup_steps=4)
    rates = [learning_rate(step, 20, recipe) for step in range(20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] > 0


def test_a_long_curve_is_thinned_with_both_ends_kept() -> None:
    points = [(step, 1.0 / step) for step in range(1, 1001)]
    thin = curve(points)
    assert len(thin) == 200
    assert (thin[0], thin[-1]) == (points[0], points[-1])
