"""Candidates for near duplicates: MinHash signatures (rensa) in LSH bands; every candidate is verified by its user.

MinHash: Broder, 1997; banding: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4. With 25 bands of
5 a pair at Jaccard 0.8 is proposed with probability 0.9999, at 0.7 with 0.99, at 0.5 with 0.55.
"""

from array import array
from collections.abc import Sequence

from rensa import RMinHash

BANDS, ROWS = 25, 5
ALGORITHM = f"rensa-rminhash/{RMinHash.ALGORITHM_VERSION} {BANDS}x{ROWS}"
_SEED = 1
_CHUNK = 8192
_FULL = 256


class MinHashNeighbours:
    """Implements `domain.clusters.Neighbours` over word sets known from the start.

    A bucket takes no more than 256 rows, so that boilerplate costs linear time.
    """

    def __init__(self, sets: Sequence[frozenset[str]]) -> None:
        self._keys = array("q")
        for at in range(0, len(sets), _CHUNK):
            # Sorted: what a set yields first differs from process to process.
            tokens = [sorted(words) for words in sets[at : at + _CHUNK]]
            for signature in RMinHash.digest_matrix_from_token_sets(tokens, BANDS * ROWS, _SEED).to_rows():
                self._keys.extend(hash(tuple(signature[band * ROWS : band * ROWS + ROWS])) for band in range(BANDS))
        self._buckets: list[dict[int, list[int]]] = [{} for _ in range(BANDS)]

    def add(self, at: int) -> None:
        """From now on propose row `at`."""
        for band in range(BANDS):
            bucket = self._buckets[band].setdefault(self._keys[at * BANDS + band], [])
            if len(bucket) < _FULL:
                bucket.append(at)

    def near(self, at: int) -> Sequence[int]:
        """Rows added that share a band with row `at`, ascending, without itself."""
        found: set[int] = set()
        for band in range(BANDS):
            found.update(self._buckets[band].get(self._keys[at * BANDS + band], ()))
        found.discard(at)
        return sorted(found)
