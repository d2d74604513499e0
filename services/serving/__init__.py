"""Serving: gateways that route and engines that generate."""
