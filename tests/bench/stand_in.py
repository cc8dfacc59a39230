"""A worker whose model sleeps: `python -m tests.bench.stand_in SECONDS`, with the settings of an installation.

`python -m tests.bench.stand_in SECONDS FOLDER`: and which waits while a file with its version's name lies in FOLDER.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from models.manifest import SHIPPED, read_manifest
from models.types import Decision, ImageAnalysis
from worker.process.logs import configure_logs
from worker.queue.app import run_worker
from worker.queue.bootstrap import Runtime
from worker.settings.settings import load_settings


class SleepingAnalyzer:
    """Takes so long for each image and finds nothing."""

    name = "stand-in"
    parameters = ()
    batch_size = 1

    def __init__(self, version: str, seconds: float, hold: Path | None) -> None:
        self.version = version
        self._seconds = seconds
        self._hold = hold

    def analyze(self, pixels: Any) -> ImageAnalysis:
        time.sleep(self._seconds)
        while self._hold is not None and self._hold.exists():
            time.sleep(0.02)
        return ImageAnalysis(0.05, (), Decision.ABSENT, self._seconds)

    def analyze_many(self, images: Any) -> list[ImageAnalysis]:
        return [self.analyze(pixels) for pixels in images]

    def explain(self, pixels: Any) -> Any:
        raise AssertionError("nothing found has nothing to explain")


def main() -> int:
    """Serve live and archive with the stand-in."""
    seconds, *folders = sys.argv[1:]
    settings = load_settings()

    class StandIn(Runtime):
        def _load_analyzer(self, folder: Path | None) -> Any:
            version = read_manifest(folder or SHIPPED).version
            return SleepingAnalyzer(version, float(seconds), next((Path(each) / version for each in folders), None))

    configure_logs(settings.log_format, settings.log_level)
    return run_worker("work", settings, StandIn)


if __name__ == "__main__":
    sys.exit(main())
