"""The local stack: real servers and every process of Pawl on one machine, supervised."""
