"""How an unexpected error is logged here: what and where, never its words."""

from __future__ import annotations

import traceback
from pathlib import Path


def incident(error: BaseException) -> dict[str, str]:
    """Return an error's type and place for the log.

    A traceback or message may quote attributes of the data set at hand, patient data included; neither is kept.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "unknown"
    return {"error": type(error).__name__, "place": place}
