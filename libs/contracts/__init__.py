"""What processes promise one another: events, task specification, subjects, ids and errors; no I/O."""
