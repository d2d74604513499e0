"""What the hot path makes by place stands under the names it is meant for."""

from datetime import UTC, datetime

import msgspec

from libs.contracts.inference import Role, Signal
from services.ingestion.domain.joined import Joined, outcome_of, row_of, said_of
from services.ingestion.domain.judgement import Said, judge
from services.ingestion.domain.rows import Prompt
from services.ingestion.domain.signals import Answered, Arrival, Claim
from services.ingestion.domain.wire import Words, plainly

THEN, NOW, LATER = (datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3))


def joined() -> Joined:
    plain = plainly(b'{"kind": "correction", "input": "asked", "correction": "right"}')
    assert plain is not None
    given = {
        "id": "i", "request_id": "r", "category": "c", "user": "u", "segment": "s", "group": "g", "consent": True,
        "licence": "l", "comment": "said", "created_at": NOW,
    }  # fmt: skip
    words: Words = msgspec.structs.replace(plain, **given)
    arrival = Arrival("tenant", "task", "desk", "i", b"key", words, "row", LATER.timestamp(), 7, "trace")
    about = Answered(
        "r", Prompt("system", "history", "input"), "output", 3, Role.CANARY, 4, "unit", "seg", THEN, "messages", "tools"
    )
    return Joined(arrival, about, Claim(Signal.BAD, "right", "wrong", "canonical", "preference", None), 0.5, "look")


def test_a_row_an_outcome_and_what_is_remembered_have_every_value_under_its_name() -> None:
    signal = joined()
    said = said_of(signal, "user")
    assert msgspec.structs.asdict(said) == {
        "row_id": "row", "kind": "correction", "source": "desk", "signal": Signal.BAD, "at": LATER.timestamp(),
        "weight": 0.5, "user": "user", "right": "right", "rejected": "wrong", "review": "look", "named": True,
    }  # fmt: skip
    judgement = judge([said], "output")
    assert msgspec.structs.asdict(judgement) == {
        "form": "preference", "kind": "correction", "source": "desk", "output": "right", "rejected": "wrong",
        "label": None, "confidence": judgement.confidence, "review": "look", "rows": ["row"], "good": 0, "bad": 1,
    }  # fmt: skip
    row = msgspec.structs.asdict(row_of(signal, "user", judgement, 2))
    assert row.pop("subject") not in (None, "unit")
    assert row == {
        "row_id": "row", "kind": "correction", "source": "desk", "input": "input", "system": "system",
        "history": "history", "output": "right", "rejected": "wrong", "category": "c", "group": "g", "user": "user",
        "segment": "s", "request_id": "r", "signal": Signal.BAD, "weight": 0.5, "consent": True, "licence": "l",
        "version": 3, "created_at": NOW, "arrived_at": LATER, "messages": "messages", "tools": "tools",
        "rejected_messages": None, "form": "preference", "label": None, "confidence": judgement.confidence,
        "review": "look", "revision": 2, "judgement": judgement, "personal": None, "comment": "said",
        "pseudonyms": None,
    }  # fmt: skip
    outcome = outcome_of(signal)
    assert outcome is not None
    assert msgspec.structs.asdict(outcome) == {
        "feedback_id": "i", "source": "desk", "kind": "correction", "signal": Signal.BAD, "request_id": "r",
        "version": 3, "role": Role.CANARY, "generation": 4, "unit": "unit", "segment": "s", "category": "c",
        "reference_digest": signal.claim.reference_digest, "answered_at": THEN, "created_at": NOW,
    }  # fmt: skip


def test_what_is_remembered_survives_its_encoding() -> None:
    said = said_of(joined(), None)
    assert msgspec.json.decode(msgspec.json.encode(said), type=Said) == said
