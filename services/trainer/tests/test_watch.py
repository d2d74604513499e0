"""When a run has gone wrong, and when it has learned what it can."""

from services.trainer.domain.watch import Divergence, Patience, pieces


def fed(losses: list[float]) -> int:
    """Number of the step at which the losses count as run away; 0 for never."""
    watch = Divergence()
    return next((step for step, loss in enumerate(losses, 1) if watch.add(loss)), 0)


def test_a_loss_that_falls_or_is_noisy_is_no_divergence() -> None:
    assert fed([4.0 / (1 + step / 10) for step in range(200)]) == 0
    assert fed([1.0 + 0.9 * (-1) ** step for step in range(200)]) == 0
    assert fed([3.0] * 30 + [0.01] * 100 + [0.5] * 20) == 0, "worse than its best, but not than where it began"


def test_a_loss_that_climbs_above_where_it_began_is_one_and_stops_early() -> None:
    step = fed([2.0] * 25 + [0.5] * 30 + [9.0] * 40)
    assert 56 <= step <= 65


def test_patience_counts_measurements_without_a_better_one() -> None:
    patience = Patience(allowed=2, min_delta=0.1)
    seen = [patience.add(step, loss) for step, loss in ((1, 3.0), (2, 2.0), (3, 1.95))]
    assert seen == [True, True, False]
    assert patience.waited == 1
    patience.add(4, 2.5)
    assert patience.exhausted
    assert (patience.best, patience.best_step) == (2.0, 2)


def test_without_a_limit_patience_never_ends_a_run() -> None:
    patience = Patience(allowed=None)
    for step in range(50):
        patience.add(step, float(step))
    assert not patience.exhausted


def test_a_batch_is_cut_into_nearly_equal_pieces_in_order() -> None:
    assert pieces((1, 2, 3, 4, 5), 1) == [(1, 2, 3, 4, 5)]
    assert pieces((1, 2, 3, 4, 5), 2) == [(1, 2, 3), (4, 5)]
    assert pieces((1, 2), 8) == [(1,), (2,)]
