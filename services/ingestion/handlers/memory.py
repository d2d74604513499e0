"""The inferences logged last, at hand: most feedback comes soon after what it is about."""

from collections import OrderedDict
from collections.abc import Collection, Iterable

from services.ingestion.domain.signals import Answered

_MOST_BYTES = 64 * 1024**2
_OVERHEAD = 700


class RecentInferences:
    """Joinable inferences that are committed, up to a size; what is not here is asked of the database.

    A joinable inference never changes once it is stored, so that a copy cannot be stale.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most = most_bytes
        self._held: OrderedDict[tuple[str, str, str], tuple[Answered, int]] = OrderedDict()
        self._bytes = 0

    def add(self, tenant: str, task: str, stored: Iterable[Answered]) -> None:
        """Remember inferences; the oldest make room."""
        for each in stored:
            prompt = each.prompt
            size = _OVERHEAD + 2 * sum(
                len(text or "") for text in (prompt.system, prompt.history, prompt.input, each.output)
            )
            key = (tenant, task, each.request_id)
            if key not in self._held:
                self._held[key] = (each, size)
                self._bytes += size
        while self._bytes > self._most and self._held:
            self._bytes -= self._held.popitem(last=False)[1][1]

    def forget(self, tenant: str, task: str, units: Collection[str]) -> None:
        """Drop what these units asked."""
        for key in [key for key, (each, _) in self._held.items() if key[:2] == (tenant, task) and each.unit in units]:
            self._bytes -= self._held.pop(key)[1]

    def get(self, tenant: str, task: str, request_id: str) -> Answered | None:
        """The inference, if it is here."""
        found = self._held.get((tenant, task, request_id))
        return found[0] if found is not None else None
