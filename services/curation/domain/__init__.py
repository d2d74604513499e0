"""How rows become a dataset version, decided without I/O."""
