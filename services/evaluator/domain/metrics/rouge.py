"""ROUGE-N, ROUGE-L and ROUGE-Lsum (Lin 2004, W04-1013), as the reference package computes them without stemming."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

from services.evaluator.domain.metrics.core import Measure, Metric, Sample

Tokenizer = Callable[[str], list[str]]
Triple = tuple[float, float, float]
"""Precision, recall, F-measure."""

_LONGEST = 5_000


def ascii_words(text: str) -> list[str]:
    """The reference's tokens: runs of a-z and 0-9 of the lower-cased text; other scripts vanish."""
    return re.findall(r"[a-z0-9]+", text.lower())


def unicode_words(text: str) -> list[str]:
    """Runs of letters, marks and digits of any script; signs of scripts without spaces stand alone."""
    words: list[str] = []
    run: list[str] = []
    for sign in unicodedata.normalize("NFKC", text).casefold():
        kind = unicodedata.category(sign)
        alone = kind == "Lo" and unicodedata.east_asian_width(sign) == "W"
        if not alone and (kind[0] in "LM" or kind == "Nd"):
            run.append(sign)
            continue
        if run:
            words.append("".join(run))
            run = []
        if alone:
            words.append(sign)
    return [*words, "".join(run)] if run else words


TOKENIZERS: dict[str, Tokenizer] = {"ascii": ascii_words, "unicode": unicode_words}


def rouge(name: str = "rouge", variant: str = "L", tokenizer: str = "unicode") -> Metric:
    """The F-measure of one variant (1, 2, 3, L, Lsum), averaged over items."""
    words = TOKENIZERS[tokenizer]

    def measure(sample: Sample) -> Measure:
        return Measure(score(variant, sample.reference, sample.text, words)[2])

    return Metric(name, f"rouge{variant}|f|tok:{tokenizer}|stem:no|mean|v1", measure)


def score(variant: str, target: str, prediction: str, words: Tokenizer = ascii_words) -> Triple:
    """Precision, recall and F-measure of a prediction."""
    if variant == "Lsum":
        return _summary([words(line) for line in _lines(target)], [words(line) for line in _lines(prediction)])
    left, right = words(target)[:_LONGEST], words(prediction)[:_LONGEST]
    if variant == "L":
        return _triple(len(common_places(left, right)), len(right), len(left))
    size = int(variant)
    wanted, got = _ngrams(left, size), _ngrams(right, size)
    return _triple((wanted & got).total(), got.total(), wanted.total())


def common_places(left: Sequence[str], right: Sequence[str]) -> list[int]:
    """Places in `left` of one longest common subsequence, that which the reference's back-tracking finds."""
    table = [[0] * (len(right) + 1)]
    for mine in left:
        above, row = table[-1], [0]
        for column, theirs in enumerate(right):
            row.append(above[column] + 1 if mine == theirs else max(above[column + 1], row[column]))
        table.append(row)
    places: list[int] = []
    i, j = len(left), len(right)
    while i and j:
        if left[i - 1] == right[j - 1]:
            i, j = i - 1, j - 1
            places.append(i)
        elif table[i][j - 1] > table[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return places[::-1]


def _summary(target: list[list[str]], prediction: list[list[str]]) -> Triple:
    spare_left = Counter(word for line in target for word in line)
    spare_right = Counter(word for line in prediction for word in line)
    hits = 0
    for line in target:
        for place in sorted(set().union(*(common_places(line, other) for other in prediction))):
            word = line[place]
            # As in ROUGE 1.5.5: no word of either side is counted twice.
            if spare_left[word] > 0 and spare_right[word] > 0:
                spare_left[word] -= 1
                spare_right[word] -= 1
                hits += 1
    return _triple(hits, sum(map(len, prediction)), sum(map(len, target)))


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line]


def _ngrams(words: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[place : place + size]) for place in range(len(words) - size + 1))


def _triple(hits: int, predicted: int, wanted: int) -> Triple:
    precision, recall = hits / max(predicted, 1), hits / max(wanted, 1)
    return precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0
