"""One JSON file for what was measured beside the trainings: baselines and checks, each with what it was measured on."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from training.runs import Run

LIBRARIES = ("numpy", "opencv-python-headless", "scikit-image", "scikit-learn", "scipy")


@dataclass(frozen=True, slots=True)
class Measurement:
    """A figure or a table with its story: `words` says what it is (kind, title, ...), `config` what was chosen."""

    words: dict[str, Any]
    config: dict[str, Any]
    metrics: dict[str, Any]
    libraries: Sequence[str] = LIBRARIES


@dataclass(frozen=True, slots=True)
class ResultWriter:
    """Where findings are written, what data they are of, and when the work on the next one began."""

    out: Path
    data: Path
    started: float = field(default_factory=time.time)

    def write(self, name: str, finding: Measurement) -> Path:
        """Write `<name>.json` with data hashes, commit, environment and time, as every run has them."""
        self.out.mkdir(parents=True, exist_ok=True)
        content = Run(self.out, finding.config, self.data, self.started, metrics=finding.metrics).as_json()
        del content["history"]
        content["environment"] |= {library: version(library) for library in finding.libraries}
        path = self.out / f"{name}.json"
        path.write_text(json.dumps({**content, **finding.words}, indent=1) + "\n")
        return path
