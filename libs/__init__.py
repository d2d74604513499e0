"""Libraries shared by every Pawl process; they know nothing of any service."""
