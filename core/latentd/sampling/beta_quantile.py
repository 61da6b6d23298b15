"""The quantile function of the beta distribution, which the "Beta" schedule needs, without scipy."""

from __future__ import annotations

import math

_TINY = 1e-300
_MAX_TERMS = 500
_HALVINGS = 60


def beta_quantile(probability: float, alpha: float, beta: float) -> float:
    """The x in [0, 1] below which a beta-distributed number falls with this probability.

    :param probability: 0 to 1.
    :param alpha: positive.
    :param beta: positive.
    :raises ValueError: a parameter out of range.
    """
    if alpha <= 0 or beta <= 0 or not 0 <= probability <= 1:
        raise ValueError("beta_quantile needs positive alpha and beta and a probability from 0 to 1")
    if probability in (0, 1):
        return float(probability)
    if probability > beta_cdf(0.5, alpha, beta):  # keep precision near 1 by the symmetry of the distribution
        return 1.0 - _bisect(1.0 - probability, beta, alpha)
    return _bisect(probability, alpha, beta)


def _bisect(probability: float, alpha: float, beta: float) -> float:
    low, high = math.log(1e-30), math.log(0.5)  # bisection in log x resolves the steep start
    if beta_cdf(math.exp(low), alpha, beta) >= probability:
        return 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if beta_cdf(math.exp(middle), alpha, beta) < probability:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


def beta_cdf(x: float, alpha: float, beta: float) -> float:
    """The regularised incomplete beta function at ``x`` in [0, 1], by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (alpha + 1) / (alpha + beta + 2):
        return 1.0 - beta_cdf(1 - x, beta, alpha)
    log_beta = math.lgamma(alpha) + math.lgamma(beta) - math.lgamma(alpha + beta)
    front = math.exp(alpha * math.log(x) + beta * math.log1p(-x) - log_beta) / alpha
    return front * _continued_fraction(x, alpha, beta)


def _continued_fraction(x: float, alpha: float, beta: float) -> float:
    """The value of the continued fraction, evaluated from its head by Lentz's method."""
    value, c, d = _TINY, _TINY, 0.0
    for term in range(_MAX_TERMS):
        m = term // 2
        if term == 0:
            numerator = 1.0
        elif term % 2 == 0:
            numerator = m * (beta - m) * x / ((alpha + 2 * m - 1) * (alpha + 2 * m))
        else:
            numerator = -(alpha + m) * (alpha + beta + m) * x / ((alpha + 2 * m) * (alpha + 2 * m + 1))
        d = 1 / _non_zero(1 + numerator * d)
        c = _non_zero(1 + numerator / c)
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value


def _non_zero(number: float) -> float:
    return number if abs(number) > _TINY else _TINY
