"""Answers must be what the task declares: present, strict JSON, of its schema."""

import re
from collections.abc import Sequence
from dataclasses import replace

from services.curation.compute.answers import AnswerCheck
from services.curation.domain.ledger import Ledger
from services.curation.domain.rows import Row
from services.curation.domain.steps import Context, Result

_FENCE = re.compile(r"\A```(?:json|JSON)?[ \t]*\n(.*?)\n?```\Z", re.DOTALL)


class Fences:
    """Takes a JSON answer out of its code fence."""

    name, version = "fences", 2

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        ledger, edited = Ledger(), []
        wanted = context.spec.output.format == "json" and context.spec.data.curation.repair.json_answers
        for row in rows:
            # The fence may be what was wrong.
            fenced = _FENCE.match(row.answer) if wanted and row.answer and row.label is not False else None
            if fenced is not None:
                ledger.edit(row, "answer_fence_removed")
            edited.append(replace(row, answer=fenced[1].strip()) if fenced is not None else row)
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
    """Takes out rows that teach no answer, or one the task could not use."""

    name, version = "answers", 1

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`; InvalidInput when the task's schema is none."""
        ledger, check = Ledger(), AnswerCheck(context.spec.output)
        for row in rows:
            if row.answer is None:
                ledger.remove(row, "no_answer", f"{row.kind}, {row.signal}")
                continue
            if row.label is False:
                continue
            fault = check.fault(row.answer)
            if fault is not None:
                ledger.remove(row, *fault)
        return Result(ledger.kept(rows), ledger)
