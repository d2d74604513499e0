"""Tests of this library."""
