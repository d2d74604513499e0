"""BM25 over texts: examples and passages like a question."""

from collections.abc import Sequence

from services.evaluator.domain.metrics.rouge import unicode_words


class Search:
    """An index in memory (bm25s; BM25 as in Lucene: Kamphuis et al. 2020). Words of any script, no stemming."""

    def __init__(self, texts: Sequence[str]) -> None:
        import bm25s

        self._size = len(texts)
        self._index = bm25s.BM25(method="lucene")
        words = [unicode_words(text) or [""] for text in texts]
        if words:
            self._index.index(words, show_progress=False)

    def like(self, question: str, count: int) -> list[int]:
        """Places of the `count` texts most like the question, the best first; equal ones in the order of the texts."""
        found = min(count, self._size)
        words = unicode_words(question)
        if not found or not words:
            return []
        scores = self._index.get_scores(words)
        ranked = sorted(range(self._size), key=lambda place: (-scores[place], place))
        return [place for place in ranked[:found] if scores[place] > 0.0]
