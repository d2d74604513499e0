"""The gateway: which version a request gets, from which engine, and what is said of it afterwards. Torch-free."""
