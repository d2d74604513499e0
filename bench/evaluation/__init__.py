"""Evaluation through serving against the raw engine, side by side."""
