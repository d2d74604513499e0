"""Quality by rule: lengths, refusals, insults, repetition."""

from collections import Counter
from collections.abc import Sequence

from services.curation.domain.acts import suspect
from services.curation.domain.heuristics import insults, refuses, repeats
from services.curation.domain.ledger import Ledger
from services.curation.domain.review import Question
from services.curation.domain.rows import Row, asked
from services.curation.domain.steps import Context, Result


class Quality:
    """Takes out what is too short or too long, and acts on suspicious answers as the policy says."""

    name, version = "quality", 2

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        policy, ledger = context.spec.data.curation.quality, Ledger()
        questions: list[Question] = []
        found: Counter[str] = Counter()
        # An answer of JSON repeats its keys and quotes its input; what it says is checked by its schema.
        prose = context.spec.output.format == "text"
        for row in rows:
            answer = row.answer or ""
            # An answer that only shows what was wrong may be wrong in any way.
            wrong = row.label is False
            length = _length(len(asked(row)), None if wrong else len(answer), context)
            if length is not None:
                ledger.remove(row, *length)
                continue
            if wrong:
                continue
            insult = insults(answer)
            looped = repeats(answer) if prose else None
            if insult is not None:
                found["toxic"] += 1
                questions += suspect(row, "toxic", "quality", policy.toxicity, insult, 0.8, ledger, context)
            elif prose and refuses(answer):
                found["refusal"] += 1
                detail = "the answer begins with a refusal"
                questions += suspect(row, "refusal", "quality", policy.refusals, detail, 0.5, ledger, context)
            elif looped is not None:
                found["repetitive"] += 1
                questions += suspect(row, "repetitive", "quality", policy.repetition, looped, 0.6, ledger, context)
        return Result(ledger.kept(rows), ledger, {"quality": dict(sorted(found.items()))}, questions)


def _length(asked_for: int, answered: int | None, context: Context) -> tuple[str, str] | None:
    policy = context.spec.data.curation.quality
    limits = (
        ("input", asked_for, policy.min_input, policy.max_input),
        ("answer", answered, policy.min_answer, policy.max_answer),
    )
    for name, has, least, most in limits:
        if has is not None and has < least:
            return f"{name}_too_short", f"{has} characters, the limit is {least}"
        if has is not None and has > most:
            return f"{name}_too_long", f"{has} characters, the limit is {most}"
    return None
