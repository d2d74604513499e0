"""What ingestion asks of others: the declared tasks, and objects that lie in somebody else's bucket."""
