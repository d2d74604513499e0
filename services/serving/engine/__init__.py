"""The engine: one base in vLLM, and the adapters that the routes ask for, loaded, verified and proven per answer."""
