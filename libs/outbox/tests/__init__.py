"""Behaviour of this library on a real nats-server."""
