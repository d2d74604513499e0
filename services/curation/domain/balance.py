"""How many rows each category may have, and how many it lacks."""

from collections.abc import Mapping, Sequence


def shares(counts: Mapping[str, int], cap: int | None, temperature: float) -> dict[str, int]:
    """Rows each category keeps: the smallest all of its rows, larger ones n**temperature in proportion, `cap` at most.

    Temperature sampling (Devlin et al. 2019, multilingual BERT), by taking rows away and never by repeating them.
    """
    if not counts:
        return {}
    smallest = min(count for count in counts.values() if count) if any(counts.values()) else 1
    unit = smallest / smallest**temperature
    kept = {name: min(count, max(1, round(unit * count**temperature))) for name, count in counts.items()}
    return {name: min(count, cap) if cap is not None else count for name, count in kept.items()}


def lacking(counts: Mapping[str, int], declared: Sequence[str], floor: int) -> dict[str, int]:
    """Rows each category lacks to reach the floor; a declared category without any row lacks at least one."""
    names = sorted({*counts, *declared})
    short = {name: max(floor, 1 if name in declared else 0) - counts.get(name, 0) for name in names}
    return {name: missing for name, missing in short.items() if missing > 0}
