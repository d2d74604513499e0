"""F1 over the fields of JSON answers, and over the words of text answers."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from libs.contracts.answers import strict_json
from services.evaluator.domain.metrics.core import Measure, Metric, Sample
from services.evaluator.domain.metrics.sums import micro_f1

Leaf = tuple[str, str]


def json_fields(name: str = "json_fields", path: str | None = None) -> Metric:
    """Micro-F1 over (path, value) leaves; items of lists count as a bag, so that their order does not.

    Per item it is the F1 of that item; over a suite true positives, false positives and misses are summed first.
    """

    def measure(sample: Sample) -> Measure:
        return _f1(_leaves_of(sample.text, path), _leaves_of(sample.reference, path))

    where = f"|path:{path}" if path else ""
    return Metric(name, f"json_fields|micro-f1|lists:bag{where}|v1", measure, micro_f1)


def token_f1(name: str = "token_f1") -> Metric:
    """F1 over the bag of lower-case words: the mean over items, as in SQuAD (Rajpurkar et al. 2016)."""

    def measure(sample: Sample) -> Measure:
        return _f1(Counter(sample.text.lower().split()), Counter(sample.reference.lower().split()))

    return Metric(name, "token_f1|bag|lower|spaces|mean|v1", measure)


def _f1(got: Counter[Any], wanted: Counter[Any]) -> Measure:
    hits = float(sum((got & wanted).values()))
    extra, missed = float(got.total()) - hits, float(wanted.total()) - hits
    whole = 2.0 * hits + extra + missed
    return Measure(2.0 * hits / whole if whole else 1.0, (hits, extra, missed))


def _leaves_of(text: str, path: str | None) -> Counter[Leaf]:
    try:
        node = strict_json(text.strip())
    except (ValueError, RecursionError):
        # An answer that is no JSON has one leaf, which matches only itself: it is wrong, not empty.
        return Counter({("", " ".join(text.split())): 1})
    leaves = Counter(_leaves(node, ()))
    if path is None:
        return leaves
    kept = {leaf: count for leaf, count in leaves.items() if leaf[0] == path or leaf[0].startswith(f"{path}.")}
    return Counter(kept)


def _leaves(node: object, path: tuple[str, ...]) -> Iterator[Leaf]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(node, list) and node:
        for value in node:
            yield from _leaves(value, (*path, "*"))
    else:
        yield ".".join(path), json.dumps(node, sort_keys=True, ensure_ascii=False)
