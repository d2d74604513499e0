"""Many claims at once: p-values adjusted so that the whole family keeps its error rate."""

from collections.abc import Mapping

from libs.contracts.errors import InvalidInput


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values (Holm 1979, Scandinavian Journal of Statistics 6:65).

    Each claim may be made alone at the level of the whole family, whatever their dependence. A conjunction (all gates
    must pass) needs none of it: its error is at most that of its weakest gate (Berger 1982, Technometrics 24:295).
    """
    adjusted: dict[str, float] = {}
    largest = 0.0
    ordered = _ascending(p_values)
    for position, (name, p_value) in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - position) * p_value))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def benjamini_hochberg(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values for exploring (Benjamini & Hochberg 1995, JRSS B 57:289).

    Among the claims with an adjusted value of at most q the expected share of false ones is at most q, for independent
    or positively dependent claims. For slices one looks through; what a decision hangs on takes `holm`.
    """
    adjusted: dict[str, float] = {}
    smallest = 1.0
    ordered = _ascending(p_values)
    for position, (name, p_value) in reversed(list(enumerate(ordered, start=1))):
        smallest = min(smallest, len(ordered) / position * p_value)
        adjusted[name] = smallest
    return {name: adjusted[name] for name in p_values}


def _ascending(p_values: Mapping[str, float]) -> list[tuple[str, float]]:
    for name, p_value in p_values.items():
        if not 0.0 <= p_value <= 1.0:
            raise InvalidInput(f"{name}: {p_value} is no probability", field="p_values")
    return sorted(p_values.items(), key=lambda row: row[1])
