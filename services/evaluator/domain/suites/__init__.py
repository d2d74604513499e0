"""Suites that are made, not collected: general ability, edge cases, safety. The same seed gives the same items."""
