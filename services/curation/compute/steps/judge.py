"""Answers a judge scored low; the scores come from outside and are kept, so that a build asks nobody and repeats."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from services.curation.domain.acts import suspect
from services.curation.domain.ledger import Ledger
from services.curation.domain.review import Question
from services.curation.domain.rows import Row, asked
from services.curation.domain.steps import Context, Result

MISSING = "unjudged"
"""Fact under which a step names what it has no score of: key, question and answer."""


class Judge:
    """Acts on rows with a score below the policy's; rows without a score pass and are listed as missing."""

    name, version = "judge", 2

    def __call__(self, rows: Sequence[Row], context: Context) -> Result:
        """As `Step`."""
        policy, ledger = context.spec.data.curation.judge, Ledger()
        if policy is None:
            return Result(list(rows), ledger)
        questions: list[Question] = []
        missing: list[dict[str, str]] = []
        scores: Counter[int] = Counter()
        # Nobody need be asked whether an answer that only shows what was wrong is good.
        taught = (row for row in rows if row.label is not False)
        chosen = sorted(taught, key=lambda row: hashlib.sha256(f"{context.salt}/{row.row_id}".encode()).digest())
        for row in chosen[: policy.max_rows]:
            key = key_of(policy.model, policy.rubric, asked(row), row.answer or "")
            score = context.verdicts.get(key)
            if score is None:
                missing.append({"key": key, "question": asked(row), "answer": row.answer or ""})
                continue
            scores[score] += 1
            if 0 < score < policy.at_least:
                detail = f"{policy.model} scored it {score} of 5"
                doubt = 1 - score / 5
                questions += suspect(row, "judged_low", "quality", policy.act, detail, doubt, ledger, context)
        facts = {
            "judge": {"model": policy.model, "scores": {str(score): scores[score] for score in sorted(scores)}},
            MISSING: missing,
        }
        return Result(ledger.kept(rows), ledger, facts, questions)


def key_of(model: str, rubric: str, question: str, answer: str) -> str:
    """The key of a score: what was judged, by whom, and how."""
    text = f"{model}\x00{rubric}\x00{question}\x00{answer}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
