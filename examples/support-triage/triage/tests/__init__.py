"""Tests of the example: its language, history and tiny base."""
