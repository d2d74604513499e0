"""Rows as the policy on personal data lets anybody read them, and what is quoted of those that never came so far."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from services.curation.compute.redaction import Redaction
from services.curation.compute.semantic import Embeddings
from services.curation.compute.steps import to_be_read, to_the_suite
from services.curation.compute.steps.repair import clean
from services.curation.domain.review import Question
from services.curation.domain.rows import Row, texts_of
from services.curation.domain.rules import PERSONAL
from services.curation.domain.steps import Context, Result, run


def readable(rows: Sequence[Row], context: Context, embeddings: Embeddings | None) -> Result:
    """What comes of the rows up to the policy on personal data: what is left has passed it, and what is quoted too.

    Steps before it raise questions and give examples in the rows' own words. These are redacted by the same policy.
    Of rows without consent, and of rows that it drops for what they hold, nobody is asked and nothing is quoted.
    """
    result = run(to_be_read(embeddings), rows, context)
    examples = result.ledger.examples
    told = {each["row_id"] for shown in examples.values() for each in shown} | {
        each.row_id for each in result.questions
    }
    said = {row.row_id: _said(row) for row in rows if row.row_id in told}
    details = [each.get("detail", "") for shown in examples.values() for each in shown]
    # As the steps to come repair it: what nobody can see may stand within an address and hide it.
    questions = [_changed(each, clean) for each in result.questions]
    redaction = Redaction(context, [*_all(said.values()), *details, *_all(map(_texts, questions))])
    labels = Redaction.labels(context, [each.category for each in questions])
    # What a question quotes may come from several rows.
    named = frozenset().union(*(row.named for row in rows if row.named))

    def may_be_read(row_id: str) -> bool:
        texts = said.get(row_id)
        dropped = result.ledger.removed.get(row_id, "").startswith(PERSONAL)
        return bool(texts) and not dropped and redaction.dropped(redaction.kinds(texts or (), named)) is None

    def cleaned(each: Question) -> Question:
        now = _changed(each, lambda text: redaction.clean(text, named))
        return replace(now, category=labels[each.category]) if each.category else now

    result.questions = [
        cleaned(each)
        for each in questions
        if may_be_read(each.row_id) and redaction.dropped(redaction.kinds(_texts(each), named)) is None
    ]
    for reason, shown in examples.items():
        examples[reason] = [
            {
                "row_id": each["row_id"],
                **{name: redaction.clean(text, named) for name, text in _quotes(each, said).items()},
            }
            if may_be_read(each["row_id"])
            else {"row_id": each["row_id"]}
            for each in shown
        ]
    return result


def before_the_suite(first: Result, context: Context, embeddings: Embeddings | None) -> Result:
    """What comes of rows that are `readable` up to the gate suite, all that came of them before included."""
    rest = run(to_the_suite(embeddings), first.rows, context)
    first.ledger.take(rest.ledger, frozenset())
    return Result(rest.rows, first.ledger, first.facts | rest.facts, [*first.questions, *rest.questions])


def _texts(question: Question) -> list[str]:
    return [question.input, question.answer, question.reason, question.suggestion, question.comment]


def _changed(question: Question, change: Callable[[str], str]) -> Question:
    text, answer, reason, suggestion, comment = map(change, _texts(question))
    return replace(question, input=text, answer=answer, reason=reason, suggestion=suggestion, comment=comment)


def _said(row: Row) -> list[str]:
    """Every text of the row, repaired, its input first; nothing where it may not be quoted or cannot be read."""
    if row.consent is False:
        return []
    try:
        return [clean(text) for text in (row.input, *texts_of(row))]
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return []


def _quotes(example: dict[str, str], said: dict[str, list[str]]) -> dict[str, str]:
    quoted = {"input": said[example["row_id"]][0]}
    return quoted | ({"detail": example["detail"]} if example.get("detail") else {})


def _all(texts: Iterable[Iterable[str]]) -> list[str]:
    return [text for each in texts for text in each]
