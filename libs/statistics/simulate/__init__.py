"""Seeded simulations of this library: its tests assert them with few draws, `bench/statistics.py` prints many."""
