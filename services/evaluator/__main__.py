"""`python -m services.evaluator`."""

from libs.runtime.process import run
from services.evaluator.app import serve
from services.evaluator.settings import EvaluatorSettings

if __name__ == "__main__":
    run("evaluator", serve, EvaluatorSettings.load())
