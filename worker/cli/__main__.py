"""`python -m worker.cli` is `bonewatch`."""

from worker.cli import main

main()
