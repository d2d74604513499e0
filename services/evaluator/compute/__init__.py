"""Search over texts and metrics that others bring: what needs more than the standard library."""
