"""The state of ingestion: what was counted, what waits for its inference, imports and the list of segments."""
