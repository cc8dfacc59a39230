"""The commands: the console script `bonewatch`. Each group has a file; docs/commands.md describes every option.

Nothing heavy is imported before a command runs: `bonewatch --help` must answer at once.
"""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from worker.cli.root import app

    app()
