"""One job from its directories to its adapter, with every way it can fail said in words."""

import errno
import logging
import os
import shutil
import signal
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from libs.contracts.errors import PawlError, Transient
from services.trainer.compute.examples import Example, read_examples
from services.trainer.compute.loop import Loop
from services.trainer.compute.machine import Machine, choose, environment, peak_memory_bytes
from services.trainer.compute.model import load_learner, load_tokenizer, save_adapter
from services.trainer.domain.plan import curve, plan_run
from services.trainer.domain.protocol import Failed, Finished, Job, Ready, Stopped, Word

log = logging.getLogger(__name__)

_SMOOTHED = 20
_XRAY_CHARACTERS = 400


class Channel(Protocol):
    """The way to the service."""

    def send(self, message: Mapping[str, Any]) -> None:
        """Say something."""

    def receive(self, timeout: float | None = 0.0) -> dict[str, Any] | None:
        """Hear something, or None."""


def run_job(job: Job, channel: Channel) -> None:
    """Train and say the outcome; every failure becomes a `Failed`, none an exception."""
    machine: Machine | None = None
    outcome: Finished | Stopped | Failed
    try:
        machine = choose(job)
        outcome = _train(job, machine, channel)
    except PawlError as error:
        outcome = Failed(reason=error.reason, message=error.message, again=isinstance(error, Transient))
    except MemoryError as error:
        outcome = _out_of_memory(job, machine, error)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        message = f"the disk under {job.workspace} is full" if full else f"{error.strerror}: {error.filename}"
        outcome = Failed(reason="DISK_FULL" if full else "IO_ERROR", message=message, again=True)
    except Exception as error:  # the boundary of this process
        if _is_memory(error):
            outcome = _out_of_memory(job, machine, error)
        elif "No space left on device" in str(error):
            outcome = Failed(reason="DISK_FULL", message=f"the disk under {job.workspace} is full", again=True)
        else:
            log.exception("training broke")
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            outcome = Failed(reason="BROKE", message=f"{type(error).__name__}: {error} at {where}", again=True)
    channel.send(outcome.model_dump())


def _train(job: Job, machine: Machine, channel: Channel) -> Finished | Stopped:
    tokenizer, stops = load_tokenizer(job)
    examples = read_examples(
        Path(job.dataset) / "train.jsonl", tokenizer, stops=stops, max_length=job.recipe.max_length
    )  # fmt: skip
    rows = examples.kept
    plan = plan_run([row.row_id for row in rows], [len(row.tokens) for row in rows], job.recipe)
    learner = load_learner(job, machine)
    stopping = _StopFlag(channel)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(stops)
    loop = Loop(
        learner, rows, plan, job.recipe, checkpoints=Path(job.workspace) / "checkpoints", pad=pad,
        say=lambda word: _say(channel, word), stop=stopping,
    )  # fmt: skip
    if job.resume_from is not None:
        loop.resume(Path(job.resume_from))
    learner.try_short_cut(loop.first_batch())
    parameters = sum(weight.numel() for weight in learner.model.parameters())
    _say(
        channel,
        Ready(
            total_steps=plan.total_steps,
            start_step=loop.step,
            rows=len(rows),
            too_long=examples.too_long,
            trained_share=round(examples.trained_share, 4),
            xray=_xray(tokenizer, rows[0]),
            parameters=parameters,
            trainable_parameters=sum(weight.numel() for _, weight in learner.trainable()),
            plan_digest=plan.digest,
            environment=environment(machine),
        ),
    )
    if not loop.run():
        return Stopped(step=loop.step)
    output = Path(job.workspace) / "adapter"
    shutil.rmtree(output, ignore_errors=True)
    save_adapter(learner, job, output)
    position = loop.position
    last = [loss for _, loss in position.curve[-_SMOOTHED:]]
    return Finished(
        path=str(output),
        steps=loop.step,
        seconds=position.seconds,
        final_loss=sum(last) / len(last),
        loss_curve=curve(position.curve),
    )


class _StopFlag:
    """True once the service asked to stop, by word or by SIGTERM."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._stopping = False
        signal.signal(signal.SIGTERM, self._on_signal)

    def __call__(self) -> bool:
        if not self._stopping:
            message = self._channel.receive(0.0)
            self._stopping = message is not None and message.get("kind") == "stop"
        return self._stopping

    def _on_signal(self, *_: object) -> None:
        self._stopping = True


def _say(channel: Channel, word: Word) -> None:
    channel.send(word.model_dump())


def _xray(tokenizer: Any, example: Example) -> str:
    trained = [token for token, marked in zip(example.tokens, example.trained, strict=True) if marked]
    return str(tokenizer.decode(trained, skip_special_tokens=False))[:_XRAY_CHARACTERS]


def _is_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _out_of_memory(job: Job, machine: Machine | None, error: BaseException) -> Failed:
    held = f" after holding {peak_memory_bytes(machine) / 2**30:.2f} GiB" if machine else ""
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return Failed(
        reason="OUT_OF_MEMORY",
        message=f"out of memory on {machine.device.type if machine else 'this machine'}{held} with batch_size "
        f"{job.recipe.batch_size} and max_length {job.recipe.max_length}: halve recipe.batch_size and double "
        f"recipe.gradient_accumulation for the same result in half the memory ({first}; pid {os.getpid()})",
    )
