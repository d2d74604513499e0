"""Behaviour of the evaluator."""
