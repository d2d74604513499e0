"""The training process: the only code of this service that imports torch."""
