"""Behaviour of libs.statistics."""
