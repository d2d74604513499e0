"""Training: speed beside TRL, and what the other benchmarks of training stand on."""
