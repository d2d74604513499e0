"""Feedback and inference log in batches: count once, join, store the segment, commit, and only then acknowledge."""
