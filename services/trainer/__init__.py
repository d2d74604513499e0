"""The trainer: turns a dataset version and a base model into an adapter, and survives being killed while at it."""
