"""What each gate can show on the items there are, said before the run."""

from collections.abc import Mapping, Sequence

from libs.contracts.task import EvaluationSpec, GateSpec
from libs.statistics.gates import MINIMUM_ITEMS
from libs.statistics.power import floor_size, prospects, sentence

CLEAR = 0.05
"""A floor is planned for a true value this far above it."""


def planned(spec: EvaluationSpec, sizes: Mapping[str, int]) -> list[str]:
    """One or more sentences a gate: what it detects with 80 % power. `sizes` has the items of each suite by name."""
    told: list[str] = []
    for gate in spec.gates:
        n = sizes.get(gate.suite, 0)
        where = f"{gate.name}:" if gate.slice is None else f"{gate.name} (of {n} items only those of {gate.slice}):"
        least = max(MINIMUM_ITEMS, spec.suite.min_items if gate.suite == "task" else 0)
        if n < least:
            told.append(f"{where} {n} items are too few, about {least - n} more needed: it will be inconclusive")
            continue
        told += [f"{where} {each}" for each in _sentences(gate, n)]
    return told


def _sentences(gate: GateSpec, n: int) -> Sequence[str]:
    if gate.kind == "floor":
        at_least = gate.at_least or 0.0
        share = min(1.0, at_least + CLEAR)
        size = floor_size(share, at_least, alpha=gate.alpha)
        if size is None:
            return [f"a floor of {at_least:g} can never be exceeded"]
        enough = "enough" if n >= size else f"about {size - n} too few"
        floor = f"a true value of {share:.3g} clears the floor of {at_least:g} with 80 % power from {size} items on"
        return [f"{floor}; {n} are {enough}"]
    bound = -gate.margin if gate.kind == "non_inferiority" else gate.margin
    return [sentence(n, bound, each) for each in prospects(n, bound, alpha=gate.alpha)]
