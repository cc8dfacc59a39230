"""Who gives an order: what the records of changes say."""

from __future__ import annotations

import getpass
import os


def user() -> str:
    """Return the name of the operating system's user, or the number where it has no name (as in containers)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
