"""Synthesis: a teacher writes, checks drop what no reviewer should see, the rest waits in the queue for a person."""

import asyncio
import hashlib
import json
import shutil
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libs.contracts.errors import FailedPrecondition, InvalidInput, NotFound, PawlError
from libs.contracts.ids import digest_bytes
from libs.contracts.task import SynthesisSpec, TaskSpec
from libs.outbox.database import Database
from libs.telemetry import get_logger, span
from services.curation.clients import child
from services.curation.clients.endpoint import Chat, judge
from services.curation.clients.library import Library
from services.curation.domain.review import Question, value_of
from services.curation.domain.synthesis import (
    EVOLVE,
    INVENT,
    Candidate,
    Seed,
    candidates,
    prompt,
    reply_schema,
    weakest,
)
from services.curation.store import datasets as store
from services.curation.store import erasures, policy, review
from services.curation.store.datasets import Dataset
from services.curation.store.erasures import Mark

log = get_logger(__name__)

MOST = 1_000
_SEEDS = 4
_DOUBT = 0.5


@dataclass(frozen=True, slots=True)
class Written:
    """What came of a synthesis: calls made, candidates queued, dropped by reason, queued by category."""

    calls: int
    queued: int
    dropped: dict[str, int] = field(default_factory=dict)
    categories: dict[str, int] = field(default_factory=dict)


class Synthesis:
    """Asks the teacher of a task for examples."""

    def __init__(self, database: Database, library: Library, chat: Chat, work: Path) -> None:
        self._database = database
        self._library = library
        self._chat = chat
        self._work = work

    async def write(self, tenant: str, task: str, count: int, category: str) -> Written:
        """Ask for about `count` examples, of a category or of the weakest ones first.

        Raises FailedPrecondition without a teacher in the task file or where the newest dataset is quarantined,
        NotFound without a dataset to take seeds from, Conflict when a subject was erased meanwhile: his rows may have
        been seeds.
        """
        if not 1 <= count <= MOST:
            raise InvalidInput(f"{count} examples: 1 to {MOST}", field="count")
        applied = await policy.applied(self._database, tenant, task)
        teacher = applied.spec.data.curation.synthesis
        if teacher is None:
            raise FailedPrecondition(
                "the task names no teacher: give data.curation.synthesis a url and a model",
                field="data.curation.synthesis",
            )
        heeded = [each.mark for each in await erasures.of_task(self._database, tenant, task)]
        dataset = await store.get(self._database, tenant, task, 0)
        if dataset.quarantined:
            raise FailedPrecondition(
                f"dataset {dataset.number} is quarantined: {dataset.quarantined}; build another one to take seeds from",
                reason="QUARANTINED",
            )
        directory = self._work / uuid.uuid4().hex
        try:
            tree = await self._library.objects(tenant).fetch_tree(dataset.digest, directory / "dataset")
            report = json.loads(await asyncio.to_thread((tree / "report.json").read_text, "utf-8"))
            seeds = await asyncio.to_thread(seeds_of, tree / "train.jsonl")
            wanted = _wanted(report, seeds, category, count, teacher.per_call)
            with span("synthesise", task=task, count=count):
                replies = await asyncio.gather(
                    *self._asked(applied.spec, teacher, seeds, wanted, f"{task}/{dataset.number}"),
                    return_exceptions=True,
                )
            written, dropped = _gathered(replies)
            # The suite, too, may be rewritten by now.
            async with self._database.unit() as unit:
                await erasures.heeded(unit, tenant, task, heeded)
            held = await self._library.items(tenant, dataset.suite_digest)
            checked = await child.run_compute(
                child.CHECK,
                directory / "check",
                {
                    "spec": applied.spec.model_dump(mode="json", by_alias=True),
                    "train": str(tree / "train.jsonl"),
                    "held": str(held),
                    "candidates": [{"input": each.input, "answer": each.answer} for each in written],
                },
            )
            dropped.update(checked["dropped"])
            kept = await self._judged(tenant, applied.spec, [written[at] for at in checked["kept"]], dropped)
            await self._queue(dataset, kept, report, heeded)
        finally:
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        by_category = Counter(each.category or "none" for each in kept)
        return Written(len(wanted), len(kept), dict(sorted(dropped.items())), dict(sorted(by_category.items())))

    def _asked(
        self, spec: TaskSpec, teacher: SynthesisSpec, seeds: Sequence[Seed], wanted: Sequence[str | None], salt: str
    ) -> list[Any]:
        gate = asyncio.Semaphore(teacher.concurrency)

        async def call(at: int, category: str | None) -> tuple[list[Candidate], int]:
            mine = [seed for seed in seeds if category is None or seed.category == category] or list(seeds)
            ranked = sorted(mine, key=lambda seed: hashlib.sha256(f"{salt}/{at}/{seed.row_id}".encode()).digest())
            method = EVOLVE if at < round(teacher.evolve * len(wanted)) else INVENT
            shown = ranked[: 1 if method == EVOLVE else _SEEDS]
            messages = prompt(spec, shown, method, category, teacher.per_call)
            async with gate:
                reply = await self._chat.complete(
                    teacher.url, teacher.model, messages, temperature=teacher.temperature,
                    max_tokens=teacher.max_tokens,
                    schema=reply_schema(spec, teacher.per_call) if teacher.structured else None,
                )  # fmt: skip
            asked = digest_bytes(json.dumps(messages, sort_keys=True).encode())
            return candidates(reply, spec, shown, model=teacher.model, method=method, category=category, asked=asked)

        return [call(at, category) for at, category in enumerate(wanted)]

    async def _judged(
        self, tenant: str, spec: TaskSpec, kept: list[Candidate], dropped: Counter[str]
    ) -> list[Candidate]:
        policy_ = spec.data.curation.judge
        if policy_ is None:
            return kept
        asked = [{"key": each.row_id, "question": each.input, "answer": each.answer} for each in kept]
        scores = await judge(self._chat, policy_, asked)
        good = [each for each in kept if scores[each.row_id] == 0 or scores[each.row_id] >= policy_.at_least]
        if len(good) < len(kept):
            dropped["judged_low"] += len(kept) - len(good)
        log.info("candidates judged", tenant=tenant, judged=len(kept), good=len(good))
        return good

    async def _queue(
        self, dataset: Dataset, kept: Sequence[Candidate], report: dict[str, Any], heeded: Sequence[Mark]
    ) -> None:
        counts = report["categories"]["train"]
        average = sum(counts.values()) / len(counts) if counts else 1.0
        asked = []
        for each in kept:
            mine = counts.get(each.category or "", 0)
            question = Question(
                kind="synthetic", row_id=each.row_id, reason=f"written by {each.lineage.model} ({each.lineage.method})",
                input=each.input, answer=each.answer, category=each.category, doubt=_DOUBT,
                lineage=each.lineage.as_json(),
                value=value_of(
                    doubt=_DOUBT, rows=1, scarcity=min(4.0, average / max(1, mine)), held_out=False,
                    characters=len(each.input) + len(each.answer),
                ),
            )  # fmt: skip
            fields = {name: getattr(question, name) for name in Question.__dataclass_fields__}
            asked.append({**fields, "item_id": question.item_id})
        async with self._database.unit() as unit:
            await erasures.heeded(unit, dataset.tenant, dataset.task, heeded)
            await review.ask(unit, dataset.tenant, dataset.task, asked, dataset.number)


def seeds_of(path: Path) -> list[Seed]:
    """Training rows of one turn that a person or an import wrote, but for answers that only show what was wrong."""
    found = []
    with path.open(encoding="utf-8") as lines:
        for text in lines:
            line = json.loads(text)
            said = [each for each in line["messages"] if each["role"] != "system"]
            wrong = line.get("label") is False
            plain = len(said) == 2 and all(isinstance(each["content"], str) for each in said)
            if plain and not wrong and not line.get("synthetic"):
                found.append(
                    Seed(line["row_id"], line["group"], said[0]["content"], said[1]["content"], line["category"])
                )
    if not found:
        raise NotFound("the newest dataset has no training row to take as a seed", field="task")
    return found


def _wanted(
    report: dict[str, Any], seeds: Sequence[Seed], category: str, count: int, per_call: int
) -> list[str | None]:
    """The category of each call: the one asked for, else the weakest in turn."""
    calls = -(-count // per_call)
    counts, lacking = report["categories"]["train"], report["balance"]["lacking"]
    if category:
        if category not in counts and category not in lacking and category not in {seed.category for seed in seeds}:
            raise InvalidInput(
                f"no category {category!r}; there are {', '.join(sorted(counts)) or 'none'}", field="category"
            )
        return [category] * calls
    names: list[str | None] = list(weakest(counts, lacking)[: max(1, calls)])
    return [names[at % len(names)] if names else None for at in range(calls)]


def _gathered(replies: Sequence[Any]) -> tuple[list[Candidate], Counter[str]]:
    """Candidates, each once; a teacher that answered nothing at all is an error."""
    dropped: Counter[str] = Counter()
    found: dict[str, Candidate] = {}
    failures = [each for each in replies if isinstance(each, BaseException)]
    for failure in failures:
        if not isinstance(failure, PawlError):
            raise failure
    if failures and len(failures) == len(replies):
        raise failures[0]
    dropped.update({"call_failed": len(failures)} if failures else {})
    for each in replies:
        if not isinstance(each, BaseException):
            written, broken = each
            dropped.update({"not_an_example": broken} if broken else {})
            for candidate in written:
                dropped.update({"written_twice": 1} if candidate.row_id in found else {})
                found.setdefault(candidate.row_id, candidate)
    return list(found.values()), dropped
