"""What a person touches: the command line, the Python client and the local stack."""
