"""An answer that only shows what was wrong (kto) is learnt as it was said: nobody mends it, and nobody takes it out."""

import json
from pathlib import Path
from typing import Any

import pytest

from libs.contracts.errors import NotFound
from services.curation.compute.pipeline import Version
from services.curation.domain.review import Decision
from services.curation.domain.split import TRAIN
from services.curation.tests.conftest import ALL_TRAIN, build_rows, row
from services.curation.workflows.synthesising import seeds_of

WRONG = (
    "I cannot help with that.", "You idiot, no.", "as an AI I would say so", "ha ha ha ha ha ha ha ha ha ha ha ha",
    "no",
)  # fmt: skip


def learnt(*rows: Any, known: dict[str, Any] | None = None, output: str = "text", **curation: Any) -> Version:
    data = {**ALL_TRAIN, "curation": curation}
    return build_rows(rows, recipe={"method": "kto"}, data=data, known=known, output={"format": output})


def test_what_was_wrong_is_neither_mended_nor_taken_out_nor_asked_about() -> None:
    asked = [f"please tell me how {thing} works" for thing in ("the modem", "a lift", "our bank", "this car", "it")]
    imported = [
        row(at, text, answer, label=False, signal="bad")
        for at, (text, answer) in enumerate(zip(asked, WRONG, strict=True))
    ]
    blamed = [row(at + 9, f"{each.input}, in one word", None, rejected=each.answer, signal="bad")
              for at, each in enumerate(imported)]  # fmt: skip
    judge = {"url": "http://judge.test/v1", "model": "m", "rubric": "r"}
    version = learnt(
        *imported, *blamed, style={"forbid": ["as an AI"], "remove": ["ha"]}, judge=judge,
        quality={"min_answer": 5, "refusals": "hold", "repetition": "hold"},
    )  # fmt: skip
    assert [(each.answer, each.label) for each in version.splits[TRAIN]] == [(said, False) for said in WRONG * 2]
    assert version.questions == []
    assert version.facts["unjudged"] == []
    fenced = '```json\n{"a": 1}\n```'
    (kept,) = learnt(row(0, "as JSON", fenced, label=False), output="json").splits[TRAIN]
    assert kept.answer == fenced
    assert learnt(row(0, "why", "no", label=False), quality={"min_input": 5}).ledger.removed["row-00000"]


@pytest.mark.parametrize("said", [{"answer": "You idiot."}, {"answer": None, "rejected": "You idiot."}])
def test_what_a_reviewer_writes_in_its_place_is_good(said: dict[str, Any]) -> None:
    given = row(0, "how do I clean a carpet", label=False, signal="bad", **said)

    def edited(**edit: str) -> list[tuple[str | None, bool | None]]:
        known = {"decisions": {given.row_id: Decision(given.row_id, "edited", by="ann", **edit)}}
        return [(each.answer, each.label) for each in learnt(given, known=known).splits[TRAIN]]

    assert edited(answer="With soap.") == [("With soap.", None)]
    assert edited(category="c1") == [("You idiot.", False)]


def test_no_teacher_is_shown_what_was_wrong(tmp_path: Path) -> None:
    told = [{"role": "user", "content": "how"}, {"role": "assistant", "content": "so"}]
    line = {"row_id": "r", "group": "g", "category": None, "messages": told}
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(json.dumps(each) for each in (line | {"label": False}, line | {"label": True})))
    assert len(seeds_of(path)) == 1
    path.write_text(json.dumps(line | {"label": False}))
    with pytest.raises(NotFound):
        seeds_of(path)
