"""`python -m services.curation.compute.candidates REQUEST`: which synthetic candidates are worth a reviewer's time."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from libs.contracts.task import TaskSpec
from services.curation.compute.answers import AnswerCheck
from services.curation.compute.build import run_child
from services.curation.compute.neighbours import MinHashNeighbours
from services.curation.compute.steps.repair import clean
from services.curation.domain.heuristics import insults, refuses, repeats
from services.curation.domain.messages import text_of
from services.curation.domain.split import TRAIN
from services.curation.domain.text import Reading, jaccard


def main(request_file: str) -> None:
    """Check the candidates of a request."""
    run_child(request_file, check)


def check(request: dict[str, Any]) -> dict[str, Any]:
    """`kept`: positions of the candidates that pass; `dropped`: how many failed, by reason.

    A candidate must give an answer the task could use, say something no row, held-out item or earlier candidate says,
    and neither refuse, insult nor repeat itself.
    """
    spec = TaskSpec.model_validate(request["spec"])
    reading, fits = Reading(), AnswerCheck(spec.output)
    known = _asked(request["train"], TRAIN) + _asked(request["held"], "held")
    texts = [clean(each["input"]) for each in request["candidates"]]
    forms = [frozenset(reading.words(text)) for text, _ in known] + [frozenset(reading.words(text)) for text in texts]
    keys = {reading.key(text): side for text, side in known}
    sides = [side for _, side in known]
    neighbours = MinHashNeighbours(forms)
    for at in range(len(known)):
        neighbours.add(at)
    threshold = spec.data.duplicates.threshold
    kept: list[int] = []
    dropped: Counter[str] = Counter()
    for at, candidate in enumerate(request["candidates"]):
        mine = len(known) + at
        fault = fits.fault(candidate["answer"]) or _flaw(candidate["answer"], spec)
        if fault is None and reading.key(texts[at]) in keys:
            fault = (_like(keys[reading.key(texts[at])]), "")
        if fault is None:
            near = next((o for o in neighbours.near(mine) if jaccard(forms[mine], forms[o]) >= threshold), None)
            fault = (_like(sides[near] if near < len(sides) else "candidate"), "") if near is not None else None
        if fault is not None:
            dropped[fault[0]] += 1
            continue
        kept.append(at)
        keys[reading.key(texts[at])] = "candidate"
        neighbours.add(mine)
    return {"kept": kept, "dropped": dict(sorted(dropped.items()))}


def _flaw(answer: str, spec: TaskSpec) -> tuple[str, str] | None:
    if insults(answer) is not None:
        return "toxic", ""
    if spec.output.format == "text" and refuses(answer):
        return "refusal", ""
    return ("repetitive", "") if spec.output.format == "text" and repeats(answer) is not None else None


def _like(side: str) -> str:
    return {TRAIN: "like_a_row", "held": "like_a_held_out_item"}.get(side, "like_another_candidate")


def _asked(path: str, side: str) -> list[tuple[str, str]]:
    found = []
    with Path(path).open(encoding="utf-8") as lines:
        for text in lines:
            line = json.loads(text)
            messages = line["messages"] if "answer" in line else line["messages"][:-1]
            parts = [text_of(each.get("content")) for each in messages if each["role"] != "system"]
            found.append(("\n".join(parts), side))
    return found


if __name__ == "__main__":
    main(sys.argv[1])
