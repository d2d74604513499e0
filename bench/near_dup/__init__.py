"""Near duplicates with planted truth: our kernel beside verified rensa and native Daft, in one run."""
