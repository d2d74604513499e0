"""Events of curation: segments and tasks become known, commands become dataset versions."""

from services.curation.handlers.curator import BUILD, REWRITTEN, SEGMENTS, TASKS, Curator

__all__ = ["BUILD", "REWRITTEN", "SEGMENTS", "TASKS", "Curator"]
