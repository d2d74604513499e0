"""What can be asked of Pawl, a file for each service."""
