"""What the engine does by itself: follow the routes, and tell what it can serve."""

from services.serving.engine.handlers.beat import Beat
from services.serving.engine.handlers.reconciler import Reconciler, follow

__all__ = ["Beat", "Reconciler", "follow"]
