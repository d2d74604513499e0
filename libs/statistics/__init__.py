"""Paired, clustered and sequential statistics; pure functions, no I/O."""
