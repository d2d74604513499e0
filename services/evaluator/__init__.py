"""Reports on held-out items and live evidence on rollouts."""
