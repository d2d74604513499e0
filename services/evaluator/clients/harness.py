"""lm-eval in a process of its own, without our keys and without a network."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from libs.contracts.errors import FailedPrecondition, InvalidInput

_PROGRAM = Path(__file__).parents[1] / "compute" / "harness.py"
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "HF_HOME", "HF_DATASETS_CACHE", "LD_LIBRARY_PATH")
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1"}


class Harness:
    """Asks lm-eval for prompts and for scores.

    Args:
        python: An interpreter that has lm-eval; empty is the evaluator's own.
        seconds: Deadline of one call.
    """

    def __init__(self, python: str = "", seconds: float = 600.0) -> None:
        self._python = python or sys.executable
        self._seconds = seconds

    async def items(self, tree: Path, tasks: Sequence[str], limit: int, seed: int) -> dict[str, Any]:
        """The prompts of the tasks. Raises FailedPrecondition for a task that cannot be evaluated, and why."""
        return await self._ask(tree, {"tasks": list(tasks), "limit": limit, "seed": seed, "answers": None})

    async def scores(
        self, tree: Path, tasks: Sequence[str], limit: int, seed: int, answers: Mapping[str, str]
    ) -> dict[str, Any]:
        """What lm-eval gives each answer, in [0, 1]."""
        return await self._ask(tree, {"tasks": list(tasks), "limit": limit, "seed": seed, "answers": dict(answers)})

    async def _ask(self, tree: Path, asked: dict[str, Any]) -> dict[str, Any]:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | _OFFLINE
        with tempfile.TemporaryDirectory() as directory:
            question, answer = Path(directory) / "asked.json", Path(directory) / "told.json"
            await asyncio.to_thread(question.write_text, json.dumps(asked), "utf-8")
            process = await asyncio.create_subprocess_exec(
                self._python, str(_PROGRAM), str(question), str(answer), cwd=tree, env=environment,
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            try:
                _, errors = await asyncio.wait_for(process.communicate(), self._seconds)
            except TimeoutError as error:
                raise FailedPrecondition(f"lm-eval took more than {self._seconds:g} s", reason="HARNESS") from error
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            if process.returncode or not await asyncio.to_thread(answer.is_file):
                last = errors.decode(errors="replace").strip().splitlines()[-1:] or ["no word"]
                raise FailedPrecondition(f"lm-eval ended with {process.returncode}: {last[0]}", reason="HARNESS")
            told: dict[str, Any] = json.loads(await asyncio.to_thread(answer.read_text, "utf-8"))
        if "error" in told:
            raise InvalidInput(f"harness: {told['error']}", field="evaluation.suites.tasks")
        return told
