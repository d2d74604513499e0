"""What takes ingestion several steps: imports, and the tidying of small segments."""
