"""A teacher behind an OpenAI-compatible endpoint: asked once per question, its answers kept, a dataset made of them."""

import asyncio
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from libs.contracts.commands import TrainModel
from libs.contracts.errors import FailedPrecondition, InvalidInput, Unavailable
from libs.contracts.task.recipe import DistilSequenceRecipe, TeacherEndpoint
from libs.telemetry import get_logger
from services.trainer.domain.teaching import LEAST_USABLE, keeps_gold, key_of, request_of, usable

log = get_logger(__name__)

_TRIES = 5
_SECONDS = 120.0
_LATER = (408, 409, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Taught:
    """A dataset version's directory with the teacher's answers in it, and how many rows it could not answer."""

    dataset: Path
    asked: int
    unusable: int


class Teacher:
    """Makes a dataset of a teacher's answers.

    Args:
        directory: Where answers are kept, by request.
        keys: API key per endpoint; a key goes to its own endpoint only.
        transport: Of the HTTP client; None for the network.
    """

    def __init__(
        self, directory: Path, keys: Mapping[str, str], *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._directory = directory
        self._keys = dict(keys)
        self._transport = transport

    async def teach(self, command: TrainModel, dataset: Path, destination: Path) -> Taught:
        """Write `dataset` with the teacher's answers to `destination`.

        Raises Unavailable when the teacher does not answer for now; FailedPrecondition when it refuses, or when fewer
        than half of its answers can be learned.
        """
        recipe = command.spec.recipe
        assert isinstance(recipe, DistilSequenceRecipe)
        rows = await asyncio.to_thread(_rows, dataset / "train.jsonl")
        ours = [row for row in rows if not keeps_gold(row["row_id"], recipe.gold_share, recipe.seed)]
        headers = {"authorization": f"Bearer {key}"} if (key := self._keys.get(recipe.teacher.endpoint)) else {}
        gate = asyncio.Semaphore(recipe.teacher.concurrency)
        async with httpx.AsyncClient(timeout=_SECONDS, headers=headers, transport=self._transport) as client:
            jobs = [asyncio.ensure_future(self._answer(client, gate, recipe.teacher, row)) for row in ours]
            try:
                said = await asyncio.gather(*jobs)
            finally:
                for job in jobs:
                    job.cancel()
        answers = {row["row_id"]: held for row, held in zip(ours, said, strict=True)}
        kept, unusable = [], 0
        for row in rows:
            held = answers.get(row["row_id"])
            if held is None:
                kept.append(row)
            elif usable(held["answer"], held["finish"], command.spec.output.format):
                answer = {"role": "assistant", "content": held["answer"]}
                kept.append({**row, "messages": [*row["messages"][:-1], answer]})
            else:
                unusable += 1
        if ours and unusable > LEAST_USABLE * len(ours):
            raise FailedPrecondition(
                f"{unusable} of the teacher's {len(ours)} answers are cut off, empty or not of the format: raise "
                "recipe.teacher.max_tokens, or tell the format in the task's system prompt",
                reason="TEACHER_UNUSABLE", field="recipe.teacher",
            )  # fmt: skip
        await asyncio.to_thread(_write, dataset, destination, kept)
        log.info("teacher answered", run_id=command.run_id, asked=len(ours), unusable=unusable)
        return Taught(destination, len(ours), unusable)

    async def _answer(
        self, client: httpx.AsyncClient, gate: asyncio.Semaphore, teacher: TeacherEndpoint, row: dict[str, Any]
    ) -> dict[str, str]:
        body = request_of(teacher, row["messages"])
        name = key_of(teacher, body)
        file = self._directory / name[:2] / f"{name}.json"
        if file.is_file():
            held: dict[str, str] = json.loads(await asyncio.to_thread(file.read_bytes))
            return held
        async with gate:
            made = await self._ask(client, teacher, body)
        await asyncio.to_thread(_keep, file, made)
        return made

    async def _ask(self, client: httpx.AsyncClient, teacher: TeacherEndpoint, body: dict[str, Any]) -> dict[str, str]:
        url = f"{teacher.endpoint.rstrip('/')}/chat/completions"
        why = ""
        for attempt in range(_TRIES):
            if attempt:
                await asyncio.sleep(min(2.0 ** (attempt - 1), 20.0))
            try:
                answer = await client.post(url, json=body)
            except httpx.TransportError as error:
                why = f"{type(error).__name__}: {error}"
                continue
            if answer.status_code in _LATER:
                why = f"status {answer.status_code}"
                continue
            if answer.status_code != 200:
                raise FailedPrecondition(
                    f"the teacher at {url} refuses with status {answer.status_code}: {answer.text[:200]}; its key is "
                    "set by PAWL_TRAINER_TEACHER_KEYS",
                    reason="TEACHER_REFUSES", field="recipe.teacher",
                )  # fmt: skip
            return _read(answer, url)
        raise Unavailable(f"the teacher at {url} does not answer: {why}", reason="TEACHER_AWAY")


def _read(answer: httpx.Response, url: str) -> dict[str, str]:
    try:
        choice = answer.json()["choices"][0]
        return {"answer": str(choice["message"]["content"] or ""), "finish": str(choice.get("finish_reason") or "")}
    except (ValueError, LookupError, TypeError) as error:
        raise InvalidInput(
            f"the teacher at {url} answers something that is no chat completion: {error!r}", field="recipe.teacher"
        ) from error


def _rows(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        raise FailedPrecondition(f"the dataset version has no {file.name}", reason="DATASET_INVALID")
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        if line.strip():
            try:
                row = json.loads(line)
                rows.append({**row, "row_id": str(row["row_id"]), "messages": list(row["messages"])})
            except (ValueError, KeyError, TypeError) as error:
                raise InvalidInput(f"{file.name} line {number} is not a chat row", reason="DATASET_INVALID") from error
    return rows


def _write(dataset: Path, destination: Path, rows: list[dict[str, Any]]) -> None:
    shutil.rmtree(destination, ignore_errors=True)
    destination.mkdir(parents=True)
    text = "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
    (destination / "train.jsonl").write_text(text)
    if (dataset / "validation.jsonl").is_file():
        shutil.copyfile(dataset / "validation.jsonl", destination / "validation.jsonl")


def _keep(file: Path, made: dict[str, str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(made, ensure_ascii=False))
    partial.replace(file)
