"""Real brokers and object storage for tests, and what tests wait with."""
