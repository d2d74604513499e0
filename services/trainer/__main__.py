"""`python -m services.trainer`: settings, app, run."""

from functools import partial

from libs.runtime.process import run
from services.trainer.app import main
from services.trainer.settings import TrainerSettings

if __name__ == "__main__":
    settings = TrainerSettings.load()
    run("trainer", partial(main, settings=settings), settings)
