"""Beside the engine: others' claims on a base, and a server of somebody else's in the model's place."""

from services.serving.engine.clients.base_choice import BaseChoice
from services.serving.engine.clients.outside import OutsideModel

__all__ = ["BaseChoice", "OutsideModel"]
