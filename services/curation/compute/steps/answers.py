"""Answers must be what the task declares: present, strict JSON, of its schema."""

import re
from collections.abc import Sequence
from dataclasses import replace

from libs.contracts.answers import canonical_answer
from services.curation.compute.answers import AnswerCheck
from services.curation.domain.identity import Identity
from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import Row
from services.curation.domain.steps import Context, Result

_FENCE = re.compile(r"\A```(?:json|JSON)?[ \t]*\n(.*?)\n?```\Z", re.DOTALL)


class Fences:
    """Takes a JSON answer out of its code fence, and the rejected one with it: else a pair would teach the fence."""

    name, version = "fences", 2

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        ledger, edited = Ledger(), []
        wanted = context.spec.output.format == "json" and context.spec.data.curation.repair.json_answers
        for row in rows:
            # The fence may be what was wrong.
            fenced = _FENCE.match(row.answer) if wanted and row.answer and row.label is not False else None
            if fenced is None:
                edited.append(row)
                continue
            ledger.edit(row, "answer_fence_removed")
            lost = _FENCE.match(row.rejected or "")
            edited.append(
                replace(row, answer=fenced[1].strip(), rejected=lost[1].strip() if lost is not None else row.rejected)
            )
        return Result(edited, ledger)


class Blame:
    """Where the task learns from blame (kto), a row that only says what was wrong teaches that."""

    name, version = "blame", 1

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        ledger, edited = Ledger(), []
        learns = context.spec.recipe.method == "kto"
        for row in rows:
            blamed = learns and row.answer is None and row.rejected is not None and row.signal == "bad"
            if blamed:
                ledger.edit(row, "blame_learnt")
            edited.append(replace(row, answer=row.rejected, rejected=None, label=False) if blamed else row)
        return Result(edited, ledger)


class Answers:
    """Takes out rows that teach no answer, or one the task could not use, and pairs of one answer."""

    name, version = "answers", 2

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`; InvalidInput when the task's schema is none."""
        ledger, check, same = Ledger(), AnswerCheck(context.spec.output), Identity(context.spec)
        for row in rows:
            if row.answer is None:
                ledger.remove(row, "no_answer", f"{row.kind}, {row.signal}")
                continue
            if row.label is False:
                continue
            fault = check.fault(row.answer)
            if fault is not None:
                ledger.remove(row, *fault)
            elif same.beaten(row) and same.beaten(row) == canonical_answer(row.answer):
                ledger.remove(row, "pair_of_one_answer")
        return Result(ledger.kept(rows), ledger)
