"""The inferences logged last, at hand: most feedback comes soon after what it is about."""

from collections import OrderedDict
from collections.abc import Collection, Iterable

from services.ingestion.domain.signals import Answered
from services.ingestion.store.erasing import Mark

_MOST_BYTES = 64 * 1024**2
_OVERHEAD = 700


class RecentInferences:
    """Joinable inferences that are committed, up to a size; what is not here is asked of the database.

    A joinable inference never changes once it is stored, so that a copy cannot be stale; it can be erased (`heed`).
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most = most_bytes
        self._held: OrderedDict[tuple[str, str, str], tuple[Answered, int]] = OrderedDict()
        self._bytes = 0
        self._unspoken: set[tuple[str, str, str]] = set()
        self._mark: Mark | None = None

    def heed(self, mark: Mark) -> None:
        """Drop all where a subject was erased since the last mark: it may be his, whichever replica erased him."""
        if mark != self._mark:
            self._held.clear()
            self._unspoken.clear()
            self._bytes, self._mark = 0, mark

    def add(self, tenant: str, task: str, stored: Iterable[Answered], mark: Mark | None = None) -> None:
        """Remember inferences that were stored after `mark` was read; the oldest make room."""
        if mark != self._mark:
            return
        for each in stored:
            prompt = each.prompt
            size = _OVERHEAD + 2 * sum(
                len(text or "")
                for text in (prompt.system, prompt.history, prompt.input, each.output, each.messages, each.tools)
            )
            key = (tenant, task, each.request_id)
            if key not in self._held:
                self._held[key] = (each, size)
                self._bytes += size
                self._unspoken.add(key)
        while self._bytes > self._most and self._held:
            key, (_, size) = self._held.popitem(last=False)
            self._bytes -= size
            self._unspoken.discard(key)

    def forget(self, tenant: str, task: str, units: Collection[str]) -> None:
        """Drop what these units asked."""
        for key in [key for key, (each, _) in self._held.items() if key[:2] == (tenant, task) and each.unit in units]:
            self._bytes -= self._held.pop(key)[1]
            self._unspoken.discard(key)

    def get(self, tenant: str, task: str, request_id: str) -> Answered | None:
        """The inference, if it is here."""
        found = self._held.get((tenant, task, request_id))
        return found[0] if found is not None else None

    def unspoken(self, tenant: str, task: str, request_id: str) -> bool:
        """Whether no signal on this inference is known; one that came before it, or elsewhere, is not known here."""
        return (tenant, task, request_id) in self._unspoken

    def spoken(self, tenant: str, task: str, request_ids: Iterable[str]) -> None:
        """Signals on these inferences are stored."""
        self._unspoken.difference_update((tenant, task, each) for each in request_ids)
