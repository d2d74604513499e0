"""What signals are about: the inference each names, what was said of it before, and how much each weighs."""

from collections.abc import Sequence

from libs.contracts.feedback import OWN_OUTPUT, FeedbackKind
from libs.contracts.task import TaskSpec
from libs.outbox.database import Database
from services.ingestion.domain.hygiene import Echoes, Senders, Tally
from services.ingestion.domain.joined import Joined
from services.ingestion.domain.judgement import Said
from services.ingestion.domain.signals import Answered, Arrival, claim_of, key_of
from services.ingestion.handlers.memory import RecentInferences
from services.ingestion.store import erasing, inferences
from services.ingestion.store import signals as store
from services.ingestion.store.erasing import Mark
from services.ingestion.store.tables import Owner

_CORRECTION = FeedbackKind.CORRECTION

Pairs = Sequence[tuple[Arrival, Answered | None]]


class Joining:
    """Joins and weighs signals; `recent` and `echoes` are shared with whoever logs inferences."""

    def __init__(self, database: Database, recent: RecentInferences, echoes: Echoes) -> None:
        self._database = database
        self._recent = recent
        self._echoes = echoes
        self._senders = Senders()

    async def mark(self) -> Mark:
        """How far erasures are; nothing that was at hand before the last one is joined after it."""
        mark = await erasing.mark(self._database)
        self._recent.heed(mark)
        return mark

    async def inferences(self, owner: Owner, arrivals: Sequence[Arrival]) -> Pairs:
        """Each signal with the inference it names, where that is logged."""
        found: dict[str, Answered] = {}
        missing: set[str] = set()
        for arrival in arrivals:
            asked = arrival.feedback.request_id
            if asked:
                held = self._recent.get(*owner, asked)
                if held is None:
                    missing.add(asked)
                else:
                    found[asked] = held
        if missing:
            found |= await inferences.find(self._database, owner, missing)
        return [(arrival, found.get(arrival.feedback.request_id or "")) for arrival in arrivals]

    async def said_before(self, owner: Owner, pairs: Pairs, *, ask_first: bool) -> dict[bytes, list[Said]]:
        """What was said of the responses that these are about.

        Nobody is known to have spoken of most. Where that is wrong, the revision that is written next is taken: the
        database says so, and then it is asked.
        """
        asked = {
            response
            for arrival, _ in pairs
            if ask_first or not self._recent.unspoken(*owner, arrival.feedback.request_id or "")
            if (response := response_of(owner, arrival)) is not None
        }
        return await store.said(self._database, asked) if asked else {}

    def weighed(self, arrival: Arrival, about: Answered | None, spec: TaskSpec, tally: Tally) -> Joined:
        """A signal with what it claims and how much that weighs under the task's policy."""
        policy = spec.data.feedback
        claim = claim_of(arrival.feedback, about.output if about is not None else None)
        weight, review = self._senders.weigh(arrival, policy, tally, about.unit if about is not None else None)
        corrected = claim.canonical if arrival.feedback.kind is _CORRECTION else None
        if review is None and corrected and policy.own_output == "review":
            version = self._echoes.version_of(arrival.tenant, arrival.task, corrected)
            if version is not None:
                review = f"{OWN_OUTPUT}the correction is word for word an answer of version {version}"
        if about is not None and about.goes_on:
            claim = claim.untaught()
        return Joined(arrival, about, claim, weight, review)

    def stored(self, tally: Tally, arrivals: Sequence[Arrival]) -> None:
        """The batch of a tally is stored: its senders are counted, and the responses it is about are spoken of."""
        self._senders.stored(tally)
        for each in arrivals:
            if each.feedback.request_id:
                self._recent.spoken(each.tenant, each.task, (each.feedback.request_id,))


def response_of(owner: Owner, arrival: Arrival) -> bytes | None:
    """What stands for the response a signal is about; None for one that names no request."""
    asked = arrival.feedback.request_id
    return key_of(*owner, "", asked) if asked else None
