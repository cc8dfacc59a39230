"""`bonewatch ui` that forgets closed pages after a second: `python -m tests.hasty_page`."""

from __future__ import annotations

import sys

from worker.cli import main
from worker.ui.access import stale_sessions

if __name__ == "__main__":
    stale_sessions.LOOK_SECONDS, stale_sessions.CLOSED_SECONDS = 0.2, 1.0
    sys.argv[1:] = ["ui"]
    main()
