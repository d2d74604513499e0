"""A service small enough to test the library with."""
