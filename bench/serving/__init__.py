"""Serving before a real engine: throughput, latency, many adapters, swaps, kills and outages."""
