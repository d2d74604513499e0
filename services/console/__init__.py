"""A web view over the other services' gRPC; it keeps nothing."""
