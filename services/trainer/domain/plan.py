"""The order of training: rows and learning rate of every step, as a pure function of the run's inputs."""

import hashlib
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from libs.contracts.task import RecipeSpec

_GROUPED_BATCHES = 50
_CURVE_POINTS = 200


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps of a run: `steps[i]` holds the micro-batches of step i, each a tuple of row positions."""

    steps: tuple[tuple[tuple[int, ...], ...], ...]
    learning_rates: tuple[float, ...]
    digest: str

    @property
    def total_steps(self) -> int:
        """Number of optimizer steps."""
        return len(self.steps)


def plan_run(row_ids: Sequence[str], lengths: Sequence[int], recipe: RecipeSpec) -> Plan:
    """Plan a run over rows of `lengths` tokens.

    Every epoch sees each row once in a seeded order; rows of similar length share a batch, so that little is spent on
    padding. A fraction of an epoch is its first batches. The digest names the order: two runs with the same one saw the
    same rows in the same steps.
    """
    per_step = recipe.batch_size * recipe.gradient_accumulation
    total = max(1, math.ceil(len(lengths) * recipe.epochs / per_step))
    if recipe.max_steps is not None:
        total = min(total, recipe.max_steps)
    micro = _micro_batches(lengths, recipe)
    steps = tuple(tuple(next(micro) for _ in range(recipe.gradient_accumulation)) for _ in range(total))
    ordered = hashlib.sha256()
    for step in steps:
        for batch in step:
            ordered.update("\x1f".join(row_ids[position] for position in batch).encode() + b"\x1e")
        ordered.update(b"\x1d")
    rates = tuple(learning_rate(step, total, recipe) for step in range(total))
    return Plan(steps, rates, f"sha256:{ordered.hexdigest()}")


def learning_rate(step: int, total: int, recipe: RecipeSpec) -> float:
    """Learning rate of the step (counted from 0): linear warm-up, then linear decay to just above 0."""
    warmup = min(recipe.warmup_steps, total // 2)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    return recipe.learning_rate * (total - step) / max(1, total - warmup)


def curve(points: Sequence[tuple[int, float]], limit: int = _CURVE_POINTS) -> tuple[tuple[int, float], ...]:
    """At most `limit` of the (step, loss) points, evenly spread, first and last among them."""
    if len(points) <= limit:
        return tuple(points)
    span = len(points) - 1
    return tuple(points[round(index * span / (limit - 1))] for index in range(limit))


def _micro_batches(lengths: Sequence[int], recipe: RecipeSpec) -> Iterator[tuple[int, ...]]:
    epoch = 0
    while True:
        # A seed from text goes through sha512: the same on every machine and Python.
        order = random.Random(f"pawl/{recipe.seed}/{epoch}")
        rows = list(range(len(lengths)))
        order.shuffle(rows)
        window = recipe.batch_size * _GROUPED_BATCHES
        batches: list[tuple[int, ...]] = []
        for start in range(0, len(rows), window):
            near = sorted(rows[start : start + window], key=lambda row: lengths[row])
            batches.extend(tuple(near[at : at + recipe.batch_size]) for at in range(0, len(near), recipe.batch_size))
        order.shuffle(batches)
        yield from batches
        epoch += 1
