"""The demo: the loop turns, a bad adapter is refused, a forced one is rolled back, a killed trainer resumes."""
