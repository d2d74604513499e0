"""Corpus values from summed statistics, for many sums at once: shape (..., k) to (...)."""

import numpy as np

from services.evaluator.domain.metrics.core import Array

_ORDERS = 4


def bleu(sums: Array) -> Array:
    """BLEU in [0, 1] with sacrebleu's exponential smoothing.

    Columns: matching n-grams of order 1 to 4, n-grams of the answers of order 1 to 4, their length, the references'.
    """
    right, total = sums[..., :_ORDERS], sums[..., _ORDERS : 2 * _ORDERS]
    own, reference = sums[..., 2 * _ORDERS], sums[..., 2 * _ORDERS + 1]
    # Each order without a match halves what the one before it without a match was given.
    halvings = 2.0 ** np.cumsum((right == 0.0) & (total > 0.0), axis=-1)
    shares = np.where(right > 0.0, right, 1.0 / halvings) / np.maximum(total, 1.0)
    known = (total > 0.0).all(axis=-1) & (right > 0.0).any(axis=-1)
    brevity = np.minimum(0.0, 1.0 - reference / np.maximum(own, 1.0))
    score: Array = np.where(known, np.exp(np.log(shares).mean(axis=-1) + brevity), 0.0)
    return score


def chrf(sums: Array) -> Array:
    """chrF2 in [0, 1]. Columns: for each order the n-grams of the answers, of the references, and those that match."""
    beta_squared = 4.0
    own, reference, match = sums[..., 0::3], sums[..., 1::3], sums[..., 2::3]
    counted = (own > 0.0) & (reference > 0.0)
    orders = np.maximum(counted.sum(axis=-1), 1)
    precision = np.where(counted, match / np.maximum(own, 1.0), 0.0).sum(axis=-1) / orders
    recall = np.where(counted, match / np.maximum(reference, 1.0), 0.0).sum(axis=-1) / orders
    below = beta_squared * precision + recall
    score: Array = (1.0 + beta_squared) * precision * recall / np.where(below > 0.0, below, 1.0)
    return score


def micro_f1(sums: Array) -> Array:
    """F1 of summed true positives, false positives and misses."""
    hits, extra, missed = sums[..., 0], sums[..., 1], sums[..., 2]
    whole = 2.0 * hits + extra + missed
    score: Array = np.where(whole > 0.0, 2.0 * hits / np.where(whole > 0.0, whole, 1.0), 1.0)
    return score
