"""The commands: the console script `bonewatch`. Each group has a file; docs/commands.md describes every option.

Nothing heavy is imported before a command runs: `bonewatch --help` must answer at once.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        from worker.cli.root import app

        app()
    except KeyboardInterrupt:  # before a command could take it
        sys.stderr.write("interrupted\n")
        sys.exit(130)
