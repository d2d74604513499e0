"""Work beside the runs: planning one, showing its mask, making it again, exporting it, searching its recipe."""

import asyncio
import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.contracts.errors import Busy, FailedPrecondition, InvalidInput, NotFound
from libs.contracts.ids import new_id
from libs.contracts.task import RecipeSpec, TaskSpec
from libs.contracts.task.recipe import DistilLogitsRecipe, DistilSequenceRecipe, recipe_of
from services.trainer.clients.nursery import Nursery
from services.trainer.clients.workspace import Workspace
from services.trainer.domain.devices import DEVICES, Device, recognised
from services.trainer.domain.forecast import beside, calibrate, forecast, prices_of
from services.trainer.domain.inquiry import Inquiry
from services.trainer.domain.protocol import (
    Export,
    Exported,
    Failed,
    Finished,
    Job,
    Progress,
    Ready,
    Survey,
    Surveyed,
    Sweep,
    Swept,
    Tried,
)
from services.trainer.domain.reproduction import differences, verdict
from services.trainer.domain.runs import Run
from services.trainer.domain.sweeping import declared
from services.trainer.store import RunStore

_WATTS_PER_THREAD = 8.0
_HISTORY = 50
_WANTED = {"qlora": ("bitsandbytes",)}
_FORMS: dict[str, tuple[str, ...]] = {"merged": (), "nf4": ("bitsandbytes",)}
"""Forms of an export, with the optional packages that write them."""


@dataclass(frozen=True, slots=True)
class Here:
    """This machine, as runs on it are made."""

    device: str
    precision: str
    threads: int
    memory_limit_bytes: int
    lock_digest: str
    code_digest: str
    prices: Path | None

    def terms(self) -> dict[str, Any]:
        """What every job and survey is told."""
        names = ("device", "precision", "threads", "memory_limit_bytes")
        return {name: getattr(self, name) for name in names}


class Planning:
    """Looks at runs before they are made, in a process of its own beside the training."""

    def __init__(self, store: RunStore, workspace: Workspace, nursery: Nursery, here: Here) -> None:
        self._store = store
        self._workspace = workspace
        self._nursery = nursery
        self._here = here

    async def plan(self, inquiry: Inquiry, device: str, prices: dict[str, Any] | None) -> dict[str, Any]:
        """The plan on the named device, or on the one at hand. Raises what the run would be refused with."""
        if device and device not in DEVICES:
            raise InvalidInput(f"no device {device!r}; there are {', '.join(DEVICES)}", field="device")
        seen = await self._survey(inquiry, simulate=True, planned=DEVICES.get(device))
        return await self._forecast(seen, inquiry.spec.recipe, DEVICES.get(device), prices)

    async def mask(self, inquiry: Inquiry) -> dict[str, Any]:
        """Rows as they would be trained, with the counts of all."""
        seen = await self._survey(inquiry, simulate=False)
        return seen.model_dump(
            include={"mask", "rows", "too_long", "skipped", "trained_share", "mean_tokens", "longest_tokens"}
        )

    async def describe(self, run_id: str, *, estimate: bool) -> tuple[Run, dict[str, Any], list[dict[str, Any]]]:
        """A run, its manifest, and its plan beside what came of it."""
        run = await self._get(run_id)
        manifest: dict[str, Any] = {}
        if run.run_manifest_digest:
            manifest = await self._workspace.read(run.tenant, run.run_manifest_digest)
        if estimate and manifest and "plan" not in run.details:
            run = await self._estimated(run, manifest)
        return run, manifest, beside(run.details.get("plan") or {}, run.details.get("actual") or {})

    async def _estimated(self, run: Run, manifest: dict[str, Any]) -> Run:
        recipe = recipe_of(**manifest["recipe"])
        spec = TaskSpec(task=run.task, base="-", recipe=recipe)
        dataset = manifest.get("taught_digest") or run.dataset_digest
        seen = await self._survey(
            Inquiry(run.tenant, spec, run.base_digest, dataset), simulate=True)  # fmt: skip
        plan = await self._forecast(seen, recipe, None, None)
        await self._store.estimated(run.run_id, plan)
        return await self._get(run.run_id)

    async def _forecast(
        self, seen: Surveyed, recipe: RecipeSpec, named: Device | None, prices: dict[str, Any] | None
    ) -> dict[str, Any]:
        history = [run.details for run in await self._store.of_task("", _HISTORY) if run.details.get("actual")]
        table = prices if prices is not None else await asyncio.to_thread(_table, self._here.prices)
        return forecast(seen, recipe, named or _at_hand(seen), calibrate(history), prices_of(table))

    async def _survey(self, inquiry: Inquiry, *, simulate: bool, planned: Device | None = None) -> Surveyed:
        base = await self._workspace.tree(inquiry.tenant, inquiry.base_digest, "base model")
        dataset = None
        if inquiry.dataset_digest:
            dataset = await self._workspace.tree(inquiry.tenant, inquiry.dataset_digest, "dataset version")
        mixed = inquiry.spec.recipe.replay
        replay = await self._workspace.tree(inquiry.tenant, mixed.dataset, "dataset to replay") if mixed else None
        said = await self._nursery.ask(
            Survey(
                base=str(base), base_digest=inquiry.base_digest, dataset=str(dataset) if dataset else None,
                dataset_digest=inquiry.dataset_digest, replay=str(replay) if replay else None,
                recipe=inquiry.spec.recipe, rows=inquiry.rows,
                mean_tokens=inquiry.mean_tokens, longest_tokens=inquiry.longest_tokens, shown=inquiry.shown,
                cache=str(self._workspace.tokens), simulate=simulate,
                planned="cuda" if planned else "here", planned_memory=planned.memory if planned else 0,
                **self._here.terms(),
            )
        )  # fmt: skip
        if not isinstance(said, Surveyed):
            raise FailedPrecondition(f"the survey ended with {said.kind}", reason="SURVEY_BROKE")
        return said

    async def _get(self, run_id: str) -> Run:
        run = await self._store.get(run_id)
        if run is None:
            raise NotFound(f"no run {run_id!r}", reason="RUN_NOT_FOUND", field="run_id")
        return run


class Remaking:
    """Makes ended runs again, bit for bit, and exports them."""

    def __init__(self, store: RunStore, workspace: Workspace, nursery: Nursery, here: Here) -> None:
        self._store = store
        self._workspace = workspace
        self._nursery = nursery
        self._here = here

    async def reproduce(self, run_id: str) -> AsyncIterator[tuple[int, int, bool | None, str]]:
        """Yields (step, steps, same bytes, why not); `same` is None until the end.

        Raises Busy while a run trains here: two at once would have neither the memory nor the cores.
        """
        run, manifest = await self._ended(run_id)
        if self._nursery.training:
            raise Busy("a run is training here: reproduce when it has ended", reason="TRAINING")
        place = self._workspace.directory(f"reproduce-{new_id('run')}")
        try:
            job = await self._job(run, manifest, place)
            trainee = await self._nursery.take(_WANTED.get(job.recipe.method, ()))
            try:
                await trainee.give(job)
                environment: dict[str, str] = {}
                async for word in trainee.words():
                    match word:
                        case Ready():
                            environment = word.environment
                        case Progress():
                            yield word.step, word.total_steps, None, ""
                        case Failed():
                            raise FailedPrecondition(f"made again, it failed: {word.message}", reason=word.reason)
                        case Finished():
                            yield await self._compared(run, manifest, word, environment)
                            return
                raise FailedPrecondition(f"the process died: {trainee.last_words()}", reason="CHILD_GONE")
            finally:
                await trainee.end()
        finally:
            await asyncio.to_thread(shutil.rmtree, place, True)
            await self._nursery.prepare()

    async def export(self, run_id: str, form: str = "") -> str:
        """Digest of the model of a run, in object storage: `merged`, which is the default, or in four bits, `nf4`."""
        if form not in ("", *_FORMS):
            raise InvalidInput(f"no export {form!r}; there are {', '.join(_FORMS)}", field="form")
        run, manifest = await self._ended(run_id)
        base = await self._workspace.tree(run.tenant, run.base_digest, "base model")
        adapter = await self._workspace.tree(run.tenant, run.adapter_digest, "adapter")
        place = self._workspace.directory(f"export-{new_id('run')}")
        try:
            work = Export.model_validate(
                {"base": str(base), "adapter": str(adapter), "destination": str(place / "model"),
                 "form": form or "merged", "threads": self._here.threads}
            )  # fmt: skip
            said = await self._nursery.ask(work, _FORMS[work.form])
            if not isinstance(said, Exported):
                raise FailedPrecondition(f"the export ended with {said.kind}", reason="EXPORT_BROKE")
            about: dict[str, object] = {
                "run_id": run_id,
                "merged_from": run.adapter_digest,
                "form": work.form,
                **_lineage(manifest),
            }
            return await self._workspace.upload(run.tenant, Path(said.path), kind="base", about=about)
        finally:
            await asyncio.to_thread(shutil.rmtree, place, True)

    async def _job(self, run: Run, manifest: dict[str, Any], place: Path) -> Job:
        recipe = recipe_of(**manifest["recipe"])
        base = await self._workspace.tree(run.tenant, run.base_digest, "base model")
        dataset = await self._workspace.tree(
            run.tenant, manifest.get("taught_digest") or run.dataset_digest, "dataset version"
        )
        before = manifest["continue_from"]
        adapter = await self._workspace.tree(run.tenant, before, "adapter to continue from") if before else None
        teacher = None
        if isinstance(recipe, DistilLogitsRecipe):
            teacher = str(await self._workspace.tree(run.tenant, recipe.teacher, "teacher"))
        replay = None
        if recipe.replay is not None:
            replay = str(await self._workspace.tree(run.tenant, recipe.replay.dataset, "dataset to replay"))
        return Job(
            run_id=run.run_id, base=str(base), base_digest=run.base_digest, dataset=str(dataset),
            dataset_digest=run.dataset_digest, continue_from=str(adapter) if adapter else None, workspace=str(place),
            recipe=recipe, task=manifest.get("task", run.task), system=manifest.get("system", ""), teacher=teacher,
            replay=replay, split=int(manifest.get("split", 1)), **self._here.terms(),
        )  # fmt: skip

    async def _compared(
        self, run: Run, manifest: dict[str, Any], finished: Finished, environment: dict[str, str]
    ) -> tuple[int, int, bool, str]:
        made = await asyncio.to_thread(_digests, Path(finished.path))
        first = await self._workspace.tree(run.tenant, run.adapter_digest, "adapter")
        held = await asyncio.to_thread(_digests, first)
        unlike = sorted(name for name in made.keys() | held.keys() if made.get(name) != held.get(name))
        now = {**environment, "code": self._here.code_digest, "lock": self._here.lock_digest}
        then = {**manifest["environment"], "code": manifest["code_digest"], "lock": manifest["lock_digest"]}
        same, why = verdict(unlike, differences(then, now))
        return finished.steps, finished.steps, same, why

    async def _ended(self, run_id: str) -> tuple[Run, dict[str, Any]]:
        run = await self._store.get(run_id)
        if run is None:
            raise NotFound(f"no run {run_id!r}", reason="RUN_NOT_FOUND", field="run_id")
        if not run.run_manifest_digest or not run.adapter_digest:
            raise FailedPrecondition(
                f"run {run_id} is {run.status.value}: only one that made a model can be made again or exported",
                reason="RUN_NOT_ENDED", field="run_id",
            )  # fmt: skip
        return run, await self._workspace.read(run.tenant, run.run_manifest_digest)


class Sweeping:
    """Tries the recipes that a task declares, over one load of its base."""

    def __init__(self, workspace: Workspace, nursery: Nursery, here: Here) -> None:
        self._workspace = workspace
        self._nursery = nursery
        self._here = here

    async def sweep(self, inquiry: Inquiry) -> AsyncIterator[Tried | Swept]:
        """Yields every trial, then the best. Raises what a run would be refused with; Busy while one trains here."""
        recipe = inquiry.spec.recipe
        declared(recipe)
        if isinstance(recipe, DistilSequenceRecipe):
            raise InvalidInput(
                "a search asks no teacher: sweep with method lora on the same rows, and take its options",
                field="recipe.method",
            )
        if self._nursery.training:
            raise Busy("a run is training here: sweep when it has ended", reason="TRAINING")
        place = self._workspace.directory(f"sweep-{new_id('run')}")
        try:
            trainee = await self._nursery.take(_WANTED.get(recipe.method, ()))
            try:
                await trainee.give(Sweep(job=await self._job(inquiry, recipe, place)))
                async for word in trainee.words():
                    match word:
                        case Tried():
                            yield word
                        case Failed():
                            raise FailedPrecondition(word.message, reason=word.reason)
                        case Swept():
                            yield word
                            return
                raise FailedPrecondition(f"the process died: {trainee.last_words()}", reason="CHILD_GONE")
            finally:
                await trainee.end()
        finally:
            await asyncio.to_thread(shutil.rmtree, place, True)
            await self._nursery.prepare()

    async def _job(self, inquiry: Inquiry, recipe: RecipeSpec, place: Path) -> Job:
        base = await self._workspace.tree(inquiry.tenant, inquiry.base_digest, "base model")
        dataset = await self._workspace.tree(inquiry.tenant, inquiry.dataset_digest, "dataset version")
        teacher = replay = None
        if isinstance(recipe, DistilLogitsRecipe):
            teacher = str(await self._workspace.tree(inquiry.tenant, recipe.teacher, "teacher"))
        if recipe.replay is not None:
            replay = str(await self._workspace.tree(inquiry.tenant, recipe.replay.dataset, "dataset to replay"))
        return Job(
            run_id="sweep", base=str(base), base_digest=inquiry.base_digest, dataset=str(dataset),
            dataset_digest=inquiry.dataset_digest, workspace=str(place), recipe=recipe, system=inquiry.spec.system,
            teacher=teacher, replay=replay, cache=str(self._workspace.tokens), **self._here.terms(),
        )  # fmt: skip


def _at_hand(seen: Surveyed) -> Device:
    told = seen.environment
    kind: Any = "gpu" if told.get("device") == "cuda" else "cpu"
    known = recognised(told.get("gpu", ""))
    watts = known.watts if known else _WATTS_PER_THREAD * int(told.get("threads", "1"))
    name = told.get("gpu") or told.get("cpu", "cpu")
    overhead = known.overhead if known else 0
    return Device(name, seen.memory_total, seen.peak_flops, watts, overhead, kind)


def _table(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        held: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise InvalidInput(f"price table {file}: {error}", field="prices") from error
    return held


def _digests(directory: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in directory.iterdir() if file.is_file()}


def _lineage(manifest: dict[str, Any]) -> dict[str, object]:
    return {name: manifest[name] for name in ("base_digest", "dataset_digest")}
