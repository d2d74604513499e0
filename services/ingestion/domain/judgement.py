"""All signals on one response reconciled into one: what it can train, how sure that is, whether to look at it."""

from collections.abc import Collection, Sequence
from functools import lru_cache

import msgspec

from libs.contracts.answers import canonical_answer
from libs.contracts.feedback import FeedbackKind
from libs.contracts.inference import Signal
from services.ingestion.domain.examples import KTO, PREFERENCE, SFT

_PRIOR = 0.5
"""Laplace's half vote for and against: one voice alone is never certain."""
_SERIOUS = 0.5
"""A minority with half the weight of the majority is a contradiction and not noise."""
MOST_WORDS = 100
"""Words on one response that are remembered; whoever speaks later is counted, and a person looks at the response."""
_UNNAMED = "contradiction: whoever named nobody praised and blamed, and may be two"
_CROWD = f"crowd: more than {MOST_WORDS} signals on one response, and those after them are not heard"
# Looked up once: in Python 3.11 finding the member of an enum takes longer than what is done with it.
_GOOD, _BAD, _NEUTRAL = Signal.GOOD.value, Signal.BAD.value, Signal.NEUTRAL.value
_COMMENT, _PREFERRED = FeedbackKind.COMMENT.value, FeedbackKind.PREFERENCE.value
_ANSWERS = (FeedbackKind.CORRECTION.value, _PREFERRED)


_Voice = tuple[str, str | None, bool]
"""Source, user, and whether it is a bare comment."""


class Said(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One signal on a response, as it is remembered; `at` is when it arrived, in epoch seconds.

    `user` is whoever asked where the signal is not `named`.
    """

    row_id: str
    kind: str
    source: str
    signal: str
    at: float
    weight: float = 1.0
    user: str | None = None
    right: str | None = None
    rejected: str | None = None
    review: str | None = None
    named: bool = True


class Judgement(msgspec.Struct, frozen=True, gc=False):
    """What the signals say together; `good` and `bad` count voices, `rows` names those that were heard."""

    form: str | None
    kind: str
    source: str
    output: str | None
    rejected: str | None
    label: bool | None
    confidence: float
    review: str | None
    rows: list[str]
    good: int
    bad: int


def unsaid(said: Said) -> Said:
    """In the place of a word whose speaker was erased: it keeps the count of words and says nothing."""
    return Said(row_id="", kind=_COMMENT, source="", signal=_NEUTRAL, at=said.at)


def crowded(judgement: Judgement) -> Judgement:
    """What the remembered words amount to where more were said."""
    return msgspec.structs.replace(judgement, review=judgement.review or _CROWD)


def judge(said: Sequence[Said], answer: str | None, sources: Collection[str] = ()) -> Judgement:
    """Reconcile the signals on one response, in whatever order they were stored.

    Args:
        said: At least one signal.
        answer: What the model answered, None when it was not logged.
        sources: Sources that may train; while one of them speaks the others are not heard. Empty: all may.

    A voice is the last word of one user of one source (nobody named: one user), so nobody is heard twice; whoever
    blames (or praises) once more without saying what would be right still stands by what he said was; who is not named
    and says the opposite may be somebody else, and a person looks at it. The right answer
    with most weight behind it (the later one of two that weigh the same) is preferred to what was answered; where
    nobody gives one, the response is praised or blamed by the greater weight. Confidence is the weight in favour over
    all, with half a vote for either side (Laplace).
    """
    heard = _voices(said, sources) if len(said) > 1 else list(said)
    if len(heard) == 1:
        return _alone(heard[0])
    praise = [each for each in heard if each.signal == _GOOD]
    blame = [each for each in heard if each.signal == _BAD]
    for_answer, against = _weight(praise), _weight(blame)
    proposals: dict[str, list[Said]] = {}
    for each in heard:
        if each.kind in _ANSWERS and each.right is not None and each.signal != _GOOD:
            proposals.setdefault(canonical_answer(each.right), []).append(each)
    flagged = next((each.review for each in heard if each.review), None)
    if proposals:
        ranked = sorted(proposals.values(), key=lambda group: (_weight(group), group[-1].at), reverse=True)
        best = ranked[0][-1]
        others = sum(_weight(group) for group in ranked[1:])
        # Who blames without an answer of his own is with whoever gives one.
        silent = _weight([each for each in blame if each.right is None])
        support, doubt = _weight(ranked[0]) + silent, others + for_answer
        review = None
        if others >= _SERIOUS * _weight(ranked[0]):
            review = f"contradiction: {len(ranked)} different right answers were given"
        elif for_answer >= _SERIOUS * support:
            review = "contradiction: the answer was praised and corrected"
        rejected = best.rejected if best.rejected is not None else answer
        kind = PREFERENCE if rejected is not None else SFT
        return _told(best, heard, kind, best.right, rejected, None, support, doubt, flagged or review)
    if not praise and not blame:
        return _told(heard[-1], heard, None, None, None, None, 0.0, 0.0, flagged)
    good = for_answer > against or (for_answer == against and praise and not blame)
    winners, losers = (praise, blame) if good else (blame, praise)
    most, least = _weight(winners), _weight(losers)
    review = "contradiction: the answer was praised and blamed" if losers and least >= _SERIOUS * most else None
    best = next((each for each in reversed(winners) if each.rejected is not None), winners[-1]) if good else winners[-1]
    if good and best.rejected is not None:
        return _told(best, heard, PREFERENCE, best.right, best.rejected, None, most, least, flagged or review)
    known = answer if answer is not None else (best.right if good else best.rejected)
    form = KTO if known is not None else None
    return _told(
        best, heard, form, known if good else None, None if good else known, bool(good) if form else None,
        most, least, flagged or review,
    )  # fmt: skip


def _voices(said: Sequence[Said], sources: Collection[str]) -> list[Said]:
    trusted = [each for each in said if each.source in sources] if sources else []
    last: dict[_Voice, Said] = {}
    signals: dict[_Voice, set[str]] = {}
    unnamed = set[_Voice]()
    for each in sorted(trusted or said, key=lambda word: word.at):
        # A bare comment takes nothing back. What a source says and names nobody is one voice, however often it votes.
        who = (each.source, each.user, each.kind == _COMMENT)
        before = last.pop(who, None)
        last[who] = before if before is not None and _says_more(before, each) else each
        signals.setdefault(who, set()).add(each.signal)
        if not each.named or each.user is None:
            unnamed.add(who)
    for who in unnamed:
        if signals[who].issuperset((_GOOD, _BAD)):
            last[who] = msgspec.structs.replace(last[who], review=last[who].review or _UNNAMED)
    return list(last.values())


def _says_more(before: Said, after: Said) -> bool:
    """Whether the later word agrees with the earlier one, or contradicts nothing in it, and leaves out its answer.

    Who corrects, and then says neither good nor bad, still stands by his correction.
    """
    if before.kind in _ANSWERS and before.right is not None and after.kind not in _ANSWERS and before.signal != _GOOD:
        return after.signal == _NEUTRAL or (after.signal == _BAD and before.signal in (_BAD, _NEUTRAL))
    if before.signal != after.signal:
        return False
    answers = [(before.right, after.right), (before.rejected, after.rejected)]
    same = all(new is None or new == old for old, new in answers)
    return same and any(old is not None and new is None for old, new in answers)


def _alone(said: Said) -> Judgement:
    good = said.signal == _GOOD
    form: str | None = None
    label: bool | None = None
    if said.kind in _ANSWERS and said.right is not None and not good:
        form = PREFERENCE if said.rejected is not None else SFT
    elif said.signal != _NEUTRAL and (said.right if good else said.rejected) is not None:
        form, label = KTO, good
        if said.kind == _PREFERRED:
            form, label = PREFERENCE, None
    weight = 0.0 if form is None else said.weight
    # Most responses have one voice, so this is made without counting.
    # By place: by name msgspec looks for each name among all of them.
    return Judgement(
        form,
        said.kind,
        said.source,
        said.right,
        said.rejected,
        label,
        _confidence(weight, 0.0),
        said.review,
        [said.row_id] if said.row_id else [],
        int(good),
        int(said.signal == _BAD),
    )


def _told(
    best: Said,
    heard: Sequence[Said],
    form: str | None,
    output: str | None,
    rejected: str | None,
    label: bool | None,
    support: float,
    doubt: float,
    review: str | None,
) -> Judgement:
    return Judgement(
        form=form,
        kind=best.kind,
        source=best.source,
        output=output,
        rejected=rejected,
        label=label,
        confidence=_confidence(support, doubt),
        review=review,
        rows=[each.row_id for each in heard if each.row_id],
        good=sum(each.signal == _GOOD for each in heard),
        bad=sum(each.signal == _BAD for each in heard),
    )


@lru_cache(1024)  # nearly all are one voice of one weight
def _confidence(support: float, doubt: float) -> float:
    return round((support + _PRIOR) / (support + doubt + 2 * _PRIOR), 4)


def _weight(said: Sequence[Said]) -> float:
    return sum(each.weight for each in said)
