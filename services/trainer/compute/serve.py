"""What a training process can be asked for: a run, a look at one before it is made, a search, a merged model."""

from collections.abc import Mapping
from typing import Any

import torch

from services.trainer.compute.failures import Channel, guarded
from services.trainer.compute.job import run_job
from services.trainer.compute.machine import choose
from services.trainer.domain.protocol import Export, Job, Survey, Sweep, asked


def serve(message: Mapping[str, Any], channel: Channel) -> None:
    """Do what the message asks and say the outcome; the heavier parts are imported by the work that needs them."""
    work = asked.validate_python(message)
    match work:
        case Job():
            run_job(work, channel)
        case Survey():
            from services.trainer.compute.survey import look

            guarded(lambda: look(work, choose(work)), channel, recipe=work.recipe, directory=work.base)
        case Sweep():
            from services.trainer.compute.sweep import search

            job = work.job
            guarded(lambda: search(job, channel), channel, recipe=job.recipe, directory=job.workspace)
        case Export():
            from services.trainer.compute.export import export

            torch.set_num_threads(work.threads or torch.get_num_threads())
            guarded(lambda: export(work), channel, recipe=None, directory=work.destination)
