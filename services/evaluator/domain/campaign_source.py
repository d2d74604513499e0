"""What a campaign is about: the per-item answers that two arms of a report gave."""

from collections.abc import Mapping, Sequence
from typing import Any

from libs.contracts.errors import InvalidInput
from services.evaluator.domain.campaign import Candidate
from services.evaluator.domain.campaign_masks import masked, names_of
from services.evaluator.domain.suite import Item

UNSORTED = "all"


def suite_digest_of(report: Mapping[str, Any]) -> str:
    """Digest of the suite a report was made on."""
    return str(report["passport"]["suite_digest"])


def judgements_of(report: Mapping[str, Any], treatment: str, control: str) -> dict[str, dict[str, float]]:
    """What the report's judges said of its items, by metric, as preferences for the treatment in [0, 1].

    A pairwise judge is heard where it compared these two arms; of a judge that grades, half the difference of the
    grades, moved to the middle.
    """
    found: dict[str, dict[str, float]] = {}
    for name, signature in report["passport"].get("metrics", {}).items():
        kind = signature.split("|", 1)[0]
        against = signature.partition("|against:")[2].split("|", 1)[0]
        if kind not in ("judge", "judge_pairwise") or (
            kind == "judge_pairwise" and against not in (treatment, control)
        ):
            continue
        for row in report["items"]:
            mine, theirs = (row["arms"][arm].get(name) for arm in (treatment, control))
            if mine is None or theirs is None:
                continue
            if kind == "judge":
                preference = (1.0 + mine - theirs) / 2.0
            else:
                preference = mine if against == control else 1.0 - theirs
            found.setdefault(name, {})[row["item_id"]] = preference
    return found


def candidates_of(report: Mapping[str, Any], suite: Sequence[Item], treatment: str, control: str) -> list[Candidate]:
    """Items that both arms answered, in the order of the report, without the names of who answered.

    Raises InvalidInput for arms that the report does not have, or that are one and the same version.
    """
    arms = report["contenders"]
    for field, name in (("treatment", treatment), ("control", control)):
        if name not in arms:
            raise InvalidInput(f"the report has no arm {name!r}; there are {', '.join(sorted(arms))}", field=field)
    if treatment == control or arms[treatment] == arms[control]:
        raise InvalidInput(f"{treatment!r} and {control!r} are the same model version", field="control")
    names = names_of((arms[treatment], arms[control]))
    prompts = {item.item_id: item.messages for item in suite}
    found = []
    for row in report["items"]:
        given = [row["arms"][name] for name in (treatment, control)]
        if any(answer.get("error") for answer in given) or row["item_id"] not in prompts:
            continue
        found.append(
            Candidate(
                item_id=row["item_id"],
                category=row.get("category") or UNSORTED,
                group=row.get("group") or f"item:{row['item_id']}",
                messages=prompts[row["item_id"]],
                treatment=masked(given[0]["text"], names),
                control=masked(given[1]["text"], names),
            )
        )
    if not found:
        raise InvalidInput("there is no item that both arms answered", field="report_id")
    return found
