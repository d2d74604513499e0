"""What a row is, how a record or a signal becomes one, and what it says of an answer; no I/O."""
