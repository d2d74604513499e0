"""Quality by rule: lengths, refusals, insults, repetition."""

from collections import Counter
from collections.abc import Sequence

from libs.contracts.task import Act
from services.curation.domain.acts import suspect
from services.curation.domain.heuristics import insults, refuses, repeats
from services.curation.domain.ledger import Ledger
from services.curation.domain.review import Question
from services.curation.domain.rows import Row, asked
from services.curation.domain.steps import Context, Result


class Quality:
    """Takes out what is too short or too long, and acts on suspicious answers as the policy says."""

    name, version = "quality", 3

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
            refused = "the answer begins with a refusal" if prose and refuses(answer) else None
            suspicions: tuple[tuple[str, Act, str | None, float], ...] = (
                ("toxic", policy.toxicity, insults(answer), 0.8),
                ("refusal", policy.refusals, refused, 0.5),
                ("repetitive", policy.repetition, repeats(answer) if prose else None, 0.6),
            )
            for rule, act, detail, doubt in suspicions:
                if detail is not None:
                    found[rule] += 1
                    questions += suspect(row, rule, "quality", act, detail, doubt, ledger, context)
                    # What is kept, or undone, is no answer to the next suspicion.
                    if act is not Act.KEEP and rule not in context.undone:
                        break
        return Result(ledger.kept(rows), ledger, {"quality": dict(sorted(found.items()))}, questions)


def _length(asked_for: int, answered: int | None, context: Context) -> tuple[str, str] | None:
    policy = context.spec.data.curation.quality
    limits = (
        ("input", asked_for, policy.min_input, policy.max_input),
        ("answer", answered, policy.min_answer, policy.max_answer),
    )
    for name, has, least, most in limits:
        if has is not None and has < least and f"{name}_too_short" not in context.undone:
            return f"{name}_too_short", f"{has} characters, the limit is {least}"
        if has is not None and has > most and f"{name}_too_long" not in context.undone:
            return f"{name}_too_long", f"{has} characters, the limit is {most}"
    return None
