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

    name, version = "quality", 1

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        policy, ledger = context.spec.data.curation.quality, Ledger()
        questions: list[Question] = []
        found: Counter[str] = Counter()
        # An answer of JSON repeats its keys and quotes its input; what it says is checked by its schema.
        prose = context.spec.output.format == "text"
        for row in rows:
            answer = row.answer or ""
            length = _length(len(asked(row)), len(answer), context)
            if length is not None:
                ledger.remove(row, *length)
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


def _length(asked_for: int, answered: int, context: Context) -> tuple[str, str] | None:
    policy = context.spec.data.curation.quality
    checks = (
        ("input_too_short", asked_for, asked_for < policy.min_input, policy.min_input),
        ("input_too_long", asked_for, asked_for > policy.max_input, policy.max_input),
        ("answer_too_short", answered, answered < policy.min_answer, policy.min_answer),
        ("answer_too_long", answered, answered > policy.max_answer, policy.max_answer),
    )
    for name, has, broken, limit in checks:
        if broken:
            return name, f"{has} characters, the limit is {limit}"
    return None
