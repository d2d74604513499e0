"""Power and sample size before the run; the standard library alone, so that a command line can print it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from libs.contracts.errors import InvalidInput

POWER = 0.8
DISCORDANCES = (0.05, 0.1, 0.2, 0.4)
_EXACT = 2000


def paired_power(
    n: int, gain: float, discordance: float, *, bound: float = 0.0, alpha: float = 0.05, design_effect: float = 1.0
) -> float:
    """Probability that a gate shows a paired difference above `bound` when it truly is `gain`.

    `bound` is the margin of a superiority gate, minus the margin of a non-inferiority gate; `discordance` the share of
    items on which the arms differ in right or wrong. One-sided normal approximation (Connor 1987, Biometrics 43:207).
    """
    spread = _spread(gain, discordance)
    if n <= 0:
        return 0.0
    return NormalDist().cdf((gain - bound) * math.sqrt(n / max(1.0, design_effect)) / spread - _z(1.0 - alpha))


def paired_size(
    gain: float,
    discordance: float,
    *,
    bound: float = 0.0,
    alpha: float = 0.05,
    power: float = POWER,
    design_effect: float = 1.0,
) -> int | None:
    """Items needed for that power; None where the true difference does not exceed the bound at all."""
    spread = _spread(gain, discordance)
    if gain <= bound:
        return None
    size = ((_z(1.0 - alpha) + _z(power)) * spread / (gain - bound)) ** 2 * max(1.0, design_effect)
    return math.ceil(size - 1e-9)


def detectable_gain(
    n: int,
    discordance: float,
    *,
    bound: float = 0.0,
    alpha: float = 0.05,
    power: float = POWER,
    design_effect: float = 1.0,
) -> float | None:
    """Smallest true difference that n items show with that power; None where not even `discordance` itself would do."""
    if paired_power(n, discordance, discordance, bound=bound, alpha=alpha, design_effect=design_effect) < power:
        return None
    low, high = -discordance, discordance
    for _ in range(50):
        middle = (low + high) / 2.0
        enough = middle > bound and (
            paired_power(n, middle, discordance, bound=bound, alpha=alpha, design_effect=design_effect) >= power
        )
        low, high = (low, middle) if enough else (middle, high)
    return high


def floor_power(n: int, share: float, at_least: float, *, alpha: float = 0.05, design_effect: float = 1.0) -> float:
    """Probability that a floor gate passes when the true proportion is `share` (Fleiss 1981, section 1.4)."""
    if not 0.0 < at_least < 1.0 or not 0.0 <= share <= 1.0:
        raise InvalidInput("proportions lie between 0 and 1", field="at_least")
    size = n / max(1.0, design_effect)
    if size <= 0.0:
        return 0.0
    reach = (share - at_least) * math.sqrt(size) - _z(1.0 - alpha) * math.sqrt(at_least * (1.0 - at_least))
    spread = math.sqrt(share * (1.0 - share))
    return float(reach > 0.0) if spread == 0.0 else NormalDist().cdf(reach / spread)


def floor_size(
    share: float, at_least: float, *, alpha: float = 0.05, power: float = POWER, design_effect: float = 1.0
) -> int | None:
    """Items needed for that power; None where the true proportion does not exceed the floor."""
    if share <= at_least:
        return None
    reach = _z(1.0 - alpha) * math.sqrt(at_least * (1.0 - at_least)) + _z(power) * math.sqrt(share * (1.0 - share))
    return math.ceil((reach / (share - at_least)) ** 2 * max(1.0, design_effect) - 1e-9)


def sign_power(n: int, share: float, *, alpha: float = 0.05) -> float:
    """Exact power of the two-sided sign test on n decisive votes of which a true `share` is won (Dixon & Mood 1946)."""
    fewest = _critical(n, alpha)
    return _tail(n, fewest, share) + _tail(n, fewest, 1.0 - share) if fewest <= n else 0.0


def sign_size(share: float, *, alpha: float = 0.05, power: float = POWER) -> int | None:
    """Decisive votes from which on the exact test has that power (it falls back a little wherever the fewest wins that
    count move up); None at a true share of one half.

    Above two thousand votes it is the normal approximation (Noether 1987, JASA 82:645), by then within three percent.
    """
    if not 0.0 <= share <= 1.0:
        raise InvalidInput(f"a share of {share} is no probability", field="share")
    if share == 0.5:
        return None
    reach = _z(1.0 - alpha / 2.0) * 0.5 + _z(power) * math.sqrt(share * (1.0 - share))
    near = (reach / (share - 0.5)) ** 2
    if near > _EXACT:
        return math.ceil(near)
    # Steps down from above the answer: the power saws, so that the first number to have it is not the last to lack it.
    n = math.ceil(1.1 * near + 20.0)
    while n > 1 and sign_power(n - 1, share, alpha=alpha) >= power:
        n -= 1
    return n


@dataclass(frozen=True, slots=True)
class Prospect:
    """What a gate on n items can show if the arms differ on a `discordance` of them.

    `detectable`: the smallest true difference shown with power 80 % (None: none is); `power`: that of showing it for
    arms that are equal, which is what a non-inferiority gate hopes for; `size`: items that would give 80 % then.
    """

    discordance: float
    detectable: float | None
    power: float
    size: int | None


def prospects(
    n: int,
    bound: float,
    *,
    alpha: float = 0.05,
    discordances: Sequence[float] = DISCORDANCES,
    design_effect: float = 1.0,
) -> tuple[Prospect, ...]:
    """What to expect of a gate with `bound` (margin, or minus the margin of non-inferiority), before it is run."""
    return tuple(
        Prospect(
            discordance,
            detectable_gain(n, discordance, bound=bound, alpha=alpha, design_effect=design_effect),
            paired_power(n, 0.0, discordance, bound=bound, alpha=alpha, design_effect=design_effect),
            paired_size(0.0, discordance, bound=bound, alpha=alpha, design_effect=design_effect),
        )
        for discordance in discordances
    )


def sentence(n: int, bound: float, prospect: Prospect) -> str:
    """One line a person reads before the run."""
    given = f"{n:,} items, arms differing on {prospect.discordance:.0%} of them:"
    if bound < 0.0:
        needed = "" if prospect.size is None or prospect.size <= n else f"; 80 % takes {prospect.size:,} items"
        return (
            f"{given} no loss beyond {-bound:.1%} is shown for equal arms with probability {prospect.power:.0%}{needed}"
        )
    if prospect.detectable is None:
        return f"{given} no difference is shown with probability 80 %"
    return f"{given} a true difference of {prospect.detectable:+.1%} or more is shown with probability 80 %"


def _spread(gain: float, discordance: float) -> float:
    if not 0.0 < discordance <= 1.0 or abs(gain) > discordance:
        raise InvalidInput(
            f"arms that differ on {discordance:.1%} of the items cannot be {gain:+.1%} apart", field="discordance"
        )
    # Where all discordant items go one way the binomial has no spread to speak of; one item's worth is left.
    return math.sqrt(max(discordance - gain * gain, 1e-4))


def _critical(n: int, alpha: float) -> int:
    """Fewest wins out of n that a two-sided sign test calls significant; n + 1 where none are."""
    tail = 0.0
    for wins in range(n, -1, -1):
        tail += math.exp(_log_choose(n, wins) - n * math.log(2.0))
        if tail > alpha / 2.0:
            return wins + 1
    return 0


def _tail(n: int, fewest: int, share: float) -> float:
    if share in (0.0, 1.0):
        return share
    terms = (
        _log_choose(n, wins) + wins * math.log(share) + (n - wins) * math.log1p(-share) for wins in range(fewest, n + 1)
    )
    return math.fsum(math.exp(term) for term in terms)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _z(probability: float) -> float:
    if not 0.0 < probability < 1.0:
        raise InvalidInput("alpha and power lie strictly between 0 and 1", field="alpha")
    return NormalDist().inv_cdf(probability)
