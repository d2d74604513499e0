"""What the gateway costs and how fast a route flips, before an engine that keeps a given pace."""
