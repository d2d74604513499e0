"""The control plane: the only process that decides a lifecycle step, sends commands and writes routes."""
