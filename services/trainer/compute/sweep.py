"""A search over a recipe: trials over one load of the base, several at once where they can be, the hopeless given up.

Optuna's tree-structured Parzen estimator proposes (Bergstra and others, 2011); a trial worse than the median of the
others at the same step is pruned (Golovin and others, 2017). Same seed and rows, same trials.
"""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from libs.contracts.errors import FailedPrecondition
from libs.contracts.task import RecipeSpec
from libs.contracts.task.recipe import Adapted, RangeSpec, SweepSpec
from services.trainer.compute.bases import load_model
from services.trainer.compute.batches import collate
from services.trainer.compute.failures import Channel
from services.trainer.compute.inputs import Inputs, read_inputs
from services.trainer.compute.job import StopFlag
from services.trainer.compute.learner import Learner
from services.trainer.compute.machine import Machine, choose, is_out_of_memory
from services.trainer.compute.methods import METHODS
from services.trainer.compute.methods.lora import attach
from services.trainer.compute.methods.qlora import load_nf4
from services.trainer.compute.rounds import SIDE_BY_SIDE, Round, Seat
from services.trainer.compute.stepper import Stepper
from services.trainer.compute.together import Together, side_by_side
from services.trainer.compute.validation import Validation
from services.trainer.domain.plan import plan_run
from services.trainer.domain.protocol import Job, Squeezed, Stopped, Swept, Tried
from services.trainer.domain.sweeping import Value, as_option, declared, trial_of
from services.trainer.domain.watch import Patience

_LOOKS = 4
"""Measurements of the validation split in a trial, the last at its end."""


def search(job: Job, channel: Channel) -> Swept | Stopped:
    """Try recipes; ends between two steps when asked to.

    Raises what a run would be refused with, and FailedPrecondition where there is nothing to compare by.
    """
    spec = declared(job.recipe)
    # Trials are compared in this process alone, which has the whole model.
    job = job.model_copy(update={"recipe": job.recipe.model_copy(update={"processes": 1, "shard": False})})
    machine = choose(job)
    inputs = read_inputs(job)
    if not inputs.held_out:
        raise FailedPrecondition(
            "a search compares losses on the validation split, and there is none: give data.split.validation a share",
            reason="NO_VALIDATION", field="data.split.validation",
        )  # fmt: skip
    return _Search(job, machine, inputs, spec, StopFlag(channel), lambda word: channel.send(word.model_dump())).run()


_Drawn = tuple[Any, dict[str, Value]]
"""Optuna's trial and the values of its options."""


class _Search:
    def __init__(
        self,
        job: Job,
        machine: Machine,
        inputs: Inputs,
        spec: SweepSpec,
        stop: StopFlag,
        say: Callable[[Tried], None],
    ) -> None:
        self._job = job
        self._machine = machine
        self._inputs = inputs
        self._spec = spec
        self._stop = stop
        self._say = say
        self._base: Any = None
        self._at_once = spec.at_once if self._alike() else 1

    def run(self) -> Swept | Stopped:
        import optuna

        optuna.logging.disable_default_handler()
        sampler = optuna.samplers.TPESampler(
            seed=self._job.recipe.seed, n_startup_trials=min(5, self._spec.trials), constant_liar=self._at_once > 1
        )
        pruner = optuna.pruners.MedianPruner(n_startup_trials=3)
        study = optuna.create_study(sampler=sampler, pruner=pruner)
        states = optuna.trial.TrialState
        while len(study.trials) < self._spec.trials:
            done = len(study.trials)
            drawn: list[_Drawn] = []
            for _ in range(min(self._at_once, self._spec.trials - done)):
                trial = study.ask()
                values = {name: self._draw(trial, name) for name in sorted(self._spec.space)}
                drawn.append((trial, values))
            for (trial, values), tried in zip(drawn, self._tried(done + 1, drawn), strict=False):
                if tried is None:
                    return Stopped(step=trial.number)
                self._say(tried)
                state = states.FAIL if tried.loss is None else states.PRUNED if tried.pruned else states.COMPLETE
                trial.set_user_attr("values", values)
                study.tell(trial, tried.loss if state is states.COMPLETE else None, state=state)
        if not any(each.state is optuna.trial.TrialState.COMPLETE for each in study.trials):
            raise FailedPrecondition(
                f"none of {self._spec.trials} trials came to an end: lower the learning rates of recipe.sweep.space",
                reason="NO_TRIAL", field="recipe.sweep.space",
            )  # fmt: skip
        best = study.best_trial
        return Swept(best=best.number + 1, values=best.user_attrs["values"], loss=study.best_value)

    def _draw(self, trial: Any, name: str) -> Value:
        held = self._spec.space[name]
        if isinstance(held, RangeSpec):
            drawn: Value = trial.suggest_float(name, held.low, held.high, log=held.log)
        else:
            drawn = trial.suggest_categorical(name, list(held))
        return as_option(self._job.recipe, name, drawn)

    def _tried(self, first: int, drawn: Sequence[_Drawn]) -> Iterator[Tried | None]:
        """What comes of the trials, the first of them number `first`; None, and no more, when it was asked to stop."""
        if len(drawn) > 1:
            try:
                yield from self._together(first, drawn)
                return
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self._at_once = 1
        for number, (trial, values) in enumerate(drawn, start=first):
            yield self._try(number, trial, values)

    def _together(self, first: int, drawn: Sequence[_Drawn]) -> Sequence[Tried | None]:
        """The trials in one pass."""
        began = time.monotonic()
        inputs, kept = self._inputs, self._inputs.items.kept
        recipes = [cast("Adapted", trial_of(self._job.recipe, values)) for _, values in drawn]
        lengths = [item.length for item in kept]
        base, self._base = self._bare(), None
        together = Together(base, recipes, self._machine)
        trials = dict(zip(together.names, (trial for trial, _ in drawn), strict=True))
        try:
            first_row = collate([(0, kept[0])], inputs.language.pad, self._machine.device)
            together.try_short_cut(first_row)
            plans = (plan_run(self._ids(), lengths, cast("RecipeSpec", recipe)) for recipe in recipes)
            seats = {name: Seat(recipe, plan) for name, recipe, plan in zip(trials, recipes, plans, strict=True)}
            every = max(1, next(iter(seats.values())).plan.total_steps // _LOOKS)

            def hopeless(name: str, step: int, loss: float) -> bool:
                trials[name].report(loss, step)
                return bool(trials[name].should_prune())

            if not Round(together, seats, kept, inputs.held_out, inputs.language).run(every, self._stop, hopeless):
                return [None]
        finally:
            self._base = together.unload()
            gc.collect()
        seconds = round((time.monotonic() - began) / len(drawn), 3)
        return [
            Tried(
                trial=number, trials=self._spec.trials, values=values, loss=seat.loss, step=seat.step, seconds=seconds,
                pruned=seat.pruned, why=seat.why,
            )
            for number, ((_, values), seat) in enumerate(zip(drawn, seats.values(), strict=True), start=first)
        ]  # fmt: skip

    def _try(self, number: int, trial: Any, values: dict[str, Value]) -> Tried | None:
        """One trial; None when it was asked to stop."""
        began = time.monotonic()
        recipe = trial_of(self._job.recipe, values)
        job = self._job.model_copy(update={"recipe": recipe})
        learner = self._dressed(job)
        loss, step, pruned, why = None, 0, False, ""
        try:
            stepper, validation = self._prepared(job, learner)
            plan = plan_run(self._ids(), [item.length for item in self._inputs.items.kept], recipe)
            every = max(1, plan.total_steps // _LOOKS)
            for micro, rate in zip(plan.steps, plan.learning_rates, strict=True):
                if self._stop():
                    return None
                step += 1
                stepper.take(step, micro, rate)
                if step % every and step < plan.total_steps:
                    continue
                loss = round(validation.measure(learner), 6)
                trial.report(loss, step)
                if step < plan.total_steps and trial.should_prune():
                    pruned = True
                    break
        except FailedPrecondition as error:
            if error.reason != "NAN_LOSS":
                raise
            loss, why = None, error.message
        finally:
            self._undressed(learner)
        seconds = round(time.monotonic() - began, 3)
        return Tried(
            trial=number, trials=self._spec.trials, values=values, loss=loss, step=step, seconds=seconds,
            pruned=pruned, why=why,
        )  # fmt: skip

    def _prepared(self, job: Job, learner: Learner) -> tuple[Stepper, Validation]:
        inputs, machine = self._inputs, self._machine
        kept = inputs.items.kept
        learner.try_short_cut(collate([(0, kept[0])], inputs.language.pad, machine.device))
        objective, measure = METHODS[job.recipe.method].objective(job, machine), _measure(job, machine)
        objective.settle(learner, kept, inputs.language)
        measure.settle(learner, inputs.held_out, inputs.language)

        def squeezed(word: Squeezed) -> None:
            """Smaller pieces change nothing that is measured."""

        stepper = Stepper(learner, objective, kept, job.recipe, pad=inputs.language.pad, say=squeezed, split=job.split)
        return stepper, Validation(
            measure, inputs.held_out, Patience(None), self._job.recipe.batch_size, inputs.language
        )  # fmt: skip

    def _ids(self) -> list[str]:
        return [item.item_id for item in self._inputs.items.kept]

    def _dressed(self, job: Job) -> Learner:
        """The model of a trial; where only a LoRA is trained, over the base that the trial before left as it was."""
        if job.recipe.method == "full":
            return METHODS["full"].prepare(job, self._machine)
        base, self._base = self._bare(), None
        return attach(base, job, self._machine)

    def _alike(self) -> bool:
        """Whether trials differ in what can be trained in one pass, and learn answers and nothing beside."""
        recipe = self._job.recipe
        plain = not (getattr(recipe, "dropout", 0.0) or getattr(recipe, "dora", False))
        answers = recipe.method == "lora" and not recipe.kl_to_base
        return plain and answers and SIDE_BY_SIDE.issuperset(self._spec.space) and side_by_side(Path(self._job.base))

    def _bare(self) -> Any:
        """The base, loaded the first time."""
        if self._base is not None:
            return self._base
        if self._job.recipe.method == "qlora":
            return load_nf4(self._job, self._machine)
        return load_model(Path(self._job.base), self._machine, tokens=self._job.recipe.max_length)

    def _undressed(self, learner: Learner) -> None:
        if hasattr(learner.model, "unload"):
            self._base = learner.model.unload()
        gc.collect()
        if self._machine.device.type == "cuda":
            torch.cuda.empty_cache()


def _measure(job: Job, machine: Machine) -> Any:
    """The objective that trials are compared by: the same for all of them, without what one of them adds to it."""
    recipe: RecipeSpec = job.recipe
    if getattr(recipe, "kl_to_base", 0.0):
        recipe = recipe.model_copy(update={"kl_to_base": 0.0})
    return METHODS[recipe.method].objective(job.model_copy(update={"recipe": recipe}), machine)
