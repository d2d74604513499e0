"""State, inbox and outbox in one transaction, and the relay that publishes what was committed."""
