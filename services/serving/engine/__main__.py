"""`python -m services.serving.engine`."""

from functools import partial

from libs.runtime.process import run
from services.serving.engine.app import serve
from services.serving.engine.settings import EngineSettings

if __name__ == "__main__":
    settings = EngineSettings.load()
    run("engine", partial(serve, settings), settings)
