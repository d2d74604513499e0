"""Distribution functions the library needs; scipy is loaded on the first call, since its import costs half a second."""


def student_cdf(value: float, freedom: float) -> float:
    """P(T <= value) of Student's t with `freedom` degrees of freedom, which need not be whole."""
    from scipy.special import stdtr

    return float(stdtr(freedom, value))


def student_quantile(probability: float, freedom: float) -> float:
    """Value that Student's t stays below with `probability`."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def binomial_cdf(successes: int, n: int, p: float) -> float:
    """P(X <= successes) of n independent trials."""
    from scipy.special import bdtr

    return float(bdtr(successes, n, p))


def beta_cdf(value: float, a: float, b: float) -> float:
    """P(X <= value) of the beta distribution (the regularised incomplete beta function)."""
    from scipy.special import betainc

    return float(betainc(a, b, value))


def beta_quantile(probability: float, a: float, b: float) -> float:
    """Value that the beta distribution stays below with `probability`."""
    from scipy.special import betaincinv

    return float(betaincinv(a, b, probability))


def noncentral_bounds(statistic: float, freedom: int, confidence: float) -> tuple[float, float]:
    """Noncentralities of a chi-square for which `statistic` is in neither tail."""
    from scipy.special import chndtr

    def bound(tail: float) -> float:
        low, high = 0.0, 4.0 * statistic + 40.0 + 4.0 * freedom
        if float(chndtr(statistic, freedom, low)) <= tail:
            return 0.0
        for _ in range(60):
            middle = (low + high) / 2.0
            low, high = (middle, high) if float(chndtr(statistic, freedom, middle)) > tail else (low, middle)
        return high

    return bound((1.0 + confidence) / 2.0), bound((1.0 - confidence) / 2.0)
