"""Events over NATS: topology, links, subscriptions, batches, desired state and dead letters."""
