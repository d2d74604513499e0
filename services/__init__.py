"""The processes of Pawl: strangers to one another, alike in anatomy."""
