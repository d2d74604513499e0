"""Handles TrainModel: one run at a time, through as many attempts as it takes."""

from services.trainer.handlers.train import TrainHandler
from services.trainer.handlers.wishes import Wishes

__all__ = ["TrainHandler", "Wishes"]
