"""Every rule of curation by name: its step, its version, what it does to a row, and whether it may be off."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from libs.contracts.errors import FailedPrecondition, InvalidInput


class Outcome(StrEnum):
    """How an input row may end."""

    KEPT = "kept"
    EDITED = "edited"
    MERGED = "merged"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `version` rises when it would decide differently; a rule not `optional` cannot be undone."""

    name: str
    step: str
    outcome: Outcome
    says: str
    optional: bool = True
    version: int = 1


_EDITED, _MERGED, _OUT = Outcome.EDITED, Outcome.MERGED, Outcome.QUARANTINED
_ALL = (
    Rule("kept", "publish", Outcome.KEPT, "the row stands as it came", optional=False),
    Rule("erased_subject", "erase", _OUT, "its subject asked for erasure", optional=False),
    Rule("withheld_after_holdout", "holdout", _OUT, "it straddles the temporal holdout", optional=False),
    Rule("withheld_validation", "holdout", _OUT, "its source may only validate, and its group trains", optional=False),
    Rule("encoding_repaired", "encoding", _EDITED, "bytes read under a wrong encoding were repaired"),
    Rule("whitespace_or_controls_cleaned", "whitespace", _EDITED, "blanks, line ends, controls and NFC"),
    Rule("no_input", "admit", _OUT, "there is nothing to ask", optional=False),
    Rule("no_consent", "admit", _OUT, "consent was refused", optional=False),
    Rule("licence_not_allowed", "admit", _OUT, "its licence is not among data.curation.licences", optional=False),
    Rule("source_not_trusted", "admit", _OUT, "its source is not among data.sources", optional=False),
    Rule("roles_merged", "roles", _EDITED, "neighbouring turns of one role became one turn"),
    Rule("roles_broken", "roles", _OUT, "the turns before the input are no conversation", optional=False),
    Rule("not_text", "roles", _OUT, "it holds an image or a call that no base here can read"),
    Rule("signals_reconciled", "signals", _EDITED, "what all signals on its request say stands", optional=False),
    Rule("superseded_signal", "signals", _OUT, "a better signal on the same request stands", optional=False),
    Rule("contradicted_praise", "signals", _OUT, "the same answer was praised and blamed"),
    Rule("low_confidence", "confidence", _OUT, "its signals agree less than data.curation.min_confidence"),
    Rule("personal_data_redacted", "personal", _EDITED, "personal data became pseudonyms", optional=False),
    Rule("review_edited", "review", _EDITED, "a reviewer changed it", optional=False),
    Rule("review_personal_data", "review", _OUT, "an edit holds personal data that is to be dropped", optional=False),
    Rule("review_rejected", "review", _OUT, "a reviewer rejected it", optional=False),
    Rule("answer_fence_removed", "fences", _EDITED, "the JSON answer stood in a code fence"),
    Rule("blame_learnt", "blame", _EDITED, "it teaches, by kto, which answer was wrong"),
    Rule("no_answer", "answers", _OUT, "it teaches no answer", optional=False),
    Rule("answer_empty", "answers", _OUT, "the answer is empty", optional=False),
    Rule("answer_not_json", "answers", _OUT, "the answer is not strict JSON"),
    Rule("answer_breaks_schema", "answers", _OUT, "the answer breaks output.schema"),
    Rule("pair_of_one_answer", "answers", _OUT, "what was preferred and what was rejected are the same answer"),
    Rule("style_removed", "style", _EDITED, "data.curation.style.remove was cut out"),
    Rule("style_forbidden", "style", _OUT, "data.curation.style.forbid was found"),
    Rule("input_too_short", "quality", _OUT, "the input is shorter than data.curation.quality.min_input"),
    Rule("input_too_long", "quality", _OUT, "the input is longer than data.curation.quality.max_input"),
    Rule("answer_too_short", "quality", _OUT, "the answer is shorter than data.curation.quality.min_answer"),
    Rule("answer_too_long", "quality", _OUT, "the answer is longer than data.curation.quality.max_answer"),
    Rule("refusal", "quality", _OUT, "the answer refuses"),
    Rule("toxic", "quality", _OUT, "the answer insults"),
    Rule("repetitive", "quality", _OUT, "the answer repeats itself"),
    Rule("judged_low", "judge", _OUT, "the judge scored it below data.curation.judge.at_least"),
    Rule("category_renamed", "aliases", _EDITED, "its category is another name of a declared one"),
    Rule("category_unknown", "taxonomy", _OUT, "its category is not among data.curation.taxonomy.categories"),
    Rule("exact_duplicate", "exact", _MERGED, "the same text with the same answer stands"),
    Rule("label_conflict_lost", "conflicts", _OUT, "more rows, or a newer correction, answer the same text otherwise"),
    Rule("label_conflict_tie", "conflicts", _OUT, "the same text has another answer as often"),
    Rule("suspected_mislabel", "labels", _OUT, "equal rows, or a cross-validated model, disagree with its category"),
    Rule("over_max_rows", "limit", _OUT, "older than the newest data.max_rows rows"),
    Rule("near_duplicate", "near", _MERGED, "a row that says the same in nearly the same words stands"),
    Rule("semantic_duplicate", "semantic", _MERGED, "a row that says the same in other words stands"),
    Rule("synthetic_held_out", "synthetic", _OUT, "a synthetic row may only train", optional=False),
    Rule("withheld_group", "seal", _OUT, "its group is held out", optional=False),
    Rule("withheld_customer", "seal", _OUT, "its user is held out", optional=False),
    Rule("withheld_exact", "seal", _OUT, "its text is held out", optional=False),
    Rule("withheld_near", "seal", _OUT, "a text like it is held out", optional=False, version=2),
    Rule("withheld_semantic", "seal", _OUT, "its embedding is that of a held-out text", optional=False),
    Rule("withheld_rephrased", "cascade", _OUT, "a held-out text says the same in other words", optional=False),
    Rule("over_category_cap", "balance", _OUT, "its category has more than its share of training rows"),
)
RULES = {rule.name: rule for rule in _ALL}
ERASED = "erased_subject"
PERSONAL = "personal_data_"
"""Beginning of the rules that drop a row for one kind of personal data."""


def rule_of(name: str) -> Rule:
    """The rule called `name`; InvalidInput when there is none."""
    if name in RULES:
        return RULES[name]
    if name.startswith(PERSONAL):
        return Rule(name, "personal", _OUT, f"it holds personal data ({name.removeprefix(PERSONAL)})", optional=False)
    raise InvalidInput(f"there is no rule {name!r}; there are {', '.join(RULES)}", field="rule")


def optional(names: Iterable[str]) -> frozenset[str]:
    """The rules of these names, if all of them may be off; FailedPrecondition names one that may not."""
    found = [rule_of(name) for name in names]
    for rule in found:
        if not rule.optional:
            raise FailedPrecondition(
                f"the rule {rule.name!r} cannot be undone: {rule.says}", reason="RULE_PROTECTED", field="rule"
            )
    return frozenset(rule.name for rule in found)
