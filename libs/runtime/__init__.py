"""How every process lives: settings, signals, probes, drain, children, gRPC in and out."""
