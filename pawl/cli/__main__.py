"""`python -m pawl.cli`, the same as `pawl`."""

from pawl.cli import main

main()
