"""One job from its directories to its adapter."""

import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from services.trainer.compute import parity
from services.trainer.compute.batches import collate
from services.trainer.compute.card import write_card
from services.trainer.compute.examples import Item
from services.trainer.compute.failures import Channel, guarded
from services.trainer.compute.inputs import Inputs, read_inputs
from services.trainer.compute.learner import Learner
from services.trainer.compute.loop import Eyes, Loop
from services.trainer.compute.machine import Machine, choose, environment, peak_flops, peak_memory_bytes
from services.trainer.compute.mask import check_isolation, decode, trained_ids
from services.trainer.compute.methods import METHODS, Language
from services.trainer.compute.placement import Whole
from services.trainer.compute.ranks import Alone, Group, join, leave
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
        inputs, recipe = read_inputs(self._job), self._job.recipe
        kept = inputs.items.kept
        lengths = [item.length for item in kept]
        plan = plan_run([item.item_id for item in kept], lengths, recipe)
        learner = self._method.prepare(self._job, machine)
        if machine.shards > 1:
            # Half a second of imports that no other run has a use for.
            from services.trainer.compute.shards import Shards

            learner.placement = Shards(
                learner.model, learner.plain, machine, rank=self._group.rank, world=self._group.world
            )
        else:
            learner.placement = Whole(self._group.rank)
        loop, stepper, validation, share = self._loop(learner, inputs, plan)
        self._say(
            Ready(
                total_steps=plan.total_steps,
                start_step=loop.step,
                rows=sum(len(item.sequences) if item.packed else 1 for item in inputs.items.kept),
                too_long=inputs.items.too_long,
                skipped=inputs.items.skipped,
                trained_share=round(inputs.items.trained_share, 4),
                xray=_xray(inputs.language, inputs.items.kept[0]),
                parameters=learner.weights,
                trainable_parameters=sum(weight.numel() for _, weight in learner.trainable()),
                plan_digest=plan.digest,
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
        seen = sum(lengths[at] for step in plan.steps[: loop.step] for b in step for at in b)
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

    def _loop(self, learner: Learner, inputs: Inputs, plan: Plan) -> tuple[Loop, Stepper, Validation | None, float]:
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
        first = plan.steps[0][0]
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
        share = _FLOPS.get(recipe.method, _ADAPTER_FLOPS) * learner.weights / peak_flops(machine) / self._group.world
        loop = Loop(
            stepper, plan, recipe, checkpoints=Path(job.workspace) / "checkpoints", eyes=eyes,
            flops_share=share, say=self._say, stop=self._stopping,
        )  # fmt: skip
        if job.resume_from is not None:
            loop.resume(Path(job.resume_from))
        return loop, stepper, validation, share

    def _validation(self, learner: Learner, inputs: Inputs) -> Validation | None:
        if not inputs.held_out:
            return None
        spec = self._job.recipe.validation
        objective = self._method.objective(self._job, learner.machine)
        objective.settle(learner, inputs.held_out, inputs.language)
        patience = Patience(spec.patience, spec.min_delta)
        return Validation(objective, inputs.held_out, patience, self._job.recipe.batch_size, inputs.language)

    def _save(self, learner: Learner, inputs: Inputs, losses: Sequence[tuple[int, float]]) -> Path:
        output = Path(self._job.workspace) / "adapter"
        speaks = self._group.rank == 0
        if speaks:
            shutil.rmtree(output, ignore_errors=True)
        self._method.save(learner, self._job, output)
        if speaks or learner.placement.shared:
            made = parity.record(learner, inputs.language, self._job.system, inputs.context)
        if speaks:
            write_card(self._job, inputs.items, tuple(losses), output)
            parity.write(made, output)
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
