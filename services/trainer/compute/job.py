"""One job from its directories to its adapter."""

import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.contracts.errors import FailedPrecondition
from services.trainer.compute.bases import check_base, check_context, load_tokenizer, pad_of
from services.trainer.compute.batches import collate
from services.trainer.compute.card import write_card
from services.trainer.compute.examples import Item
from services.trainer.compute.failures import Channel, guarded
from services.trainer.compute.learner import Learner
from services.trainer.compute.loop import Eyes, Loop
from services.trainer.compute.machine import Machine, choose, environment, peak_flops, peak_memory_bytes
from services.trainer.compute.mask import check_isolation, check_masks, check_text, decode, trained_ids
from services.trainer.compute.methods import METHODS, Language
from services.trainer.compute.parity import write_parity
from services.trainer.compute.ranks import Alone, Group, join, leave
from services.trainer.compute.reading import Items, read_items
from services.trainer.compute.rows import read_rows
from services.trainer.compute.stepper import Stepper
from services.trainer.compute.validation import Validation, write_samples
from services.trainer.domain.plan import Plan, curve, plan_run
from services.trainer.domain.protocol import Finished, Job, Ready, Stopped, Word
from services.trainer.domain.watch import Patience

_SMOOTHED = 20
_XRAY_CHARACTERS = 400
_FLOPS = {"full": 6}
_ADAPTER_FLOPS = 4


def run_job(job: Job, channel: Channel) -> None:
    """Train and say the outcome; every failure becomes a `Failed`, none an exception."""
    guarded(lambda: _Training(job, channel).run(), channel, recipe=job.recipe, directory=job.workspace)


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What was read before a weight was loaded."""

    language: Language
    items: Items
    held_out: tuple[Item, ...]
    plan: Plan
    context: int


class _Training:
    """One attempt: read and check, load, train, save."""

    def __init__(self, job: Job, channel: Channel) -> None:
        self._job = job
        self._channel = channel
        self._method = METHODS[job.recipe.method]
        self._stopping = StopFlag(channel)
        self._group: Group = Alone()

    def run(self) -> Finished | Stopped:
        machine = choose(self._job)
        self._group = join(self._job, machine.device)
        try:
            return self._run(machine)
        finally:
            leave(self._group)

    def _run(self, machine: Machine) -> Finished | Stopped:
        baseline = peak_memory_bytes(machine)
        inputs = self._read()
        learner = self._method.prepare(self._job, machine)
        loop, stepper, validation, share = self._loop(learner, inputs)
        parameters = sum(weight.numel() for name, weight in learner.plain.named_parameters() if ".lora_" not in name)
        self._say(
            Ready(
                total_steps=inputs.plan.total_steps,
                start_step=loop.step,
                rows=sum(len(item.sequences) if item.packed else 1 for item in inputs.items.kept),
                too_long=inputs.items.too_long,
                skipped=inputs.items.skipped,
                trained_share=round(inputs.items.trained_share, 4),
                xray=_xray(inputs.language, inputs.items.kept[0]),
                parameters=parameters,
                trainable_parameters=sum(weight.numel() for _, weight in learner.trainable()),
                plan_digest=inputs.plan.digest,
                rows_digest=inputs.items.digest,
                baseline_bytes=baseline,
                environment=environment(machine),
            )
        )
        if not loop.run():
            return Stopped(step=loop.step)
        position = loop.position
        if validation is not None:
            validation.restore_best(learner)
        output = self._save(learner, inputs, position.curve)
        seen = sum(inputs.items.kept[at].length for step in inputs.plan.steps[: loop.step] for b in step for at in b)
        last = [loss for _, loss in position.curve[-_SMOOTHED:]]
        return Finished(
            path=str(output),
            steps=loop.step,
            seconds=position.seconds,
            final_loss=sum(last) / len(last),
            loss_curve=curve(position.curve),
            validation=position.validation,
            best_step=validation.patience.best_step if validation and validation.best else 0,
            peak_memory_bytes=peak_memory_bytes(machine),
            tokens_per_second=round(seen / max(position.seconds, 1e-6), 1),
            mfu=round(seen / max(position.seconds, 1e-6) * share, 4),
            split=stepper.split,
        )

    def _read(self) -> _Inputs:
        job, recipe = self._job, self._job.recipe
        base = Path(job.base)
        config = check_base(base)
        check_context(config, recipe.max_length)
        tokenizer, stops = load_tokenizer(base)
        language = Language(tokenizer, stops, pad_of(tokenizer, stops))
        file = Path(job.dataset) / "train.jsonl"
        cache = Path(job.cache) if job.cache else None
        items = read_items(file, base, language, recipe, cache, Path(job.replay) if job.replay else None)
        check_masks(items.kept, language)
        check_text(read_rows(file), items.kept, language)
        plan = plan_run([item.item_id for item in items.kept], [item.length for item in items.kept], recipe)
        return _Inputs(language, items, self._held_out(language, cache), plan, _context(config))

    def _held_out(self, language: Language, cache: Path | None) -> tuple[Item, ...]:
        file = Path(self._job.dataset) / "validation.jsonl"
        if not file.is_file() or not file.stat().st_size:
            return ()
        try:
            read = read_items(file, Path(self._job.base), language, self._job.recipe, cache).kept
        except FailedPrecondition:
            # A split that holds nothing for this method measures nothing; the training rows decide about the run.
            return ()
        return tuple(sorted(read, key=lambda item: item.item_id)[: self._job.recipe.validation.max_rows])

    def _loop(self, learner: Learner, inputs: _Inputs) -> tuple[Loop, Stepper, Validation | None, float]:
        job, recipe = self._job, self._job.recipe
        machine = learner.machine
        objective = self._method.objective(job, machine)
        stepper = Stepper(
            learner,
            objective,
            inputs.items.kept,
            recipe,
            pad=inputs.language.pad,
            say=self._say,
            split=job.split,
            group=self._group,
        )
        first = inputs.plan.steps[0][0]
        learner.try_short_cut(collate([(first[0], inputs.items.kept[first[0]])], inputs.language.pad, machine.device))
        if recipe.packing:
            check_isolation(learner, [(at, inputs.items.kept[at]) for at in first], inputs.language.pad)
        objective.settle(learner, inputs.items.kept, inputs.language)
        validation = self._validation(learner, inputs)
        samples = recipe.samples
        eyes = Eyes(
            validation,
            (lambda: write_samples(learner, inputs.held_out, samples, inputs.language))
            if samples is not None and inputs.held_out
            else None,
        )
        weights = sum(weight.numel() for name, weight in learner.plain.named_parameters() if ".lora_" not in name)
        share = _FLOPS.get(recipe.method, _ADAPTER_FLOPS) * weights / peak_flops(machine)
        loop = Loop(
            stepper, inputs.plan, recipe, checkpoints=Path(job.workspace) / "checkpoints", eyes=eyes,
            flops_share=share, say=self._say, stop=self._stopping,
        )  # fmt: skip
        if job.resume_from is not None:
            loop.resume(Path(job.resume_from))
        return loop, stepper, validation, share

    def _validation(self, learner: Learner, inputs: _Inputs) -> Validation | None:
        if not inputs.held_out:
            return None
        spec = self._job.recipe.validation
        objective = self._method.objective(self._job, learner.machine)
        objective.settle(learner, inputs.held_out, inputs.language)
        patience = Patience(spec.patience, spec.min_delta)
        return Validation(objective, inputs.held_out, patience, self._job.recipe.batch_size, inputs.language)

    def _save(self, learner: Learner, inputs: _Inputs, losses: Sequence[tuple[int, float]]) -> Path:
        output = Path(self._job.workspace) / "adapter"
        if self._group.rank:
            return output
        shutil.rmtree(output, ignore_errors=True)
        self._method.save(learner, self._job, output)
        write_card(self._job, inputs.items, tuple(losses), output)
        write_parity(learner, inputs.language, self._job.system, inputs.context, output)
        return output

    def _say(self, word: Word) -> None:
        self._channel.send(word.model_dump())


class StopFlag:
    """True once the service asked to stop, by word or by SIGTERM."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._stopping = False
        signal.signal(signal.SIGTERM, self._on_signal)

    def __call__(self) -> bool:
        """Whether to stop after this step."""
        if not self._stopping:
            message = self._channel.receive(0.0)
            self._stopping = message is not None and message.get("kind") == "stop"
        return self._stopping

    def _on_signal(self, *_: object) -> None:
        self._stopping = True


def _xray(language: Language, item: Item) -> str:
    return decode(language.tokenizer, trained_ids(item.sequences[0]))[:_XRAY_CHARACTERS]


def _context(config: dict[str, Any]) -> int:
    inner = config.get("text_config") or config
    return int(inner.get("max_position_embeddings") or inner.get("n_positions") or 1 << 20)
