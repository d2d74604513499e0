"""Metrics: what an answer scores, one small file for each kind."""
