"""One JSON file for what was measured beside the trainings: a question, its answer, and what it was measured on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from training.runs import Run

LIBRARIES = ("numpy", "opencv-python-headless", "scikit-learn", "scipy")


@dataclass(frozen=True, slots=True)
class Check:
    """What was asked, how, what came out, and what it means."""

    title: str
    question: str
    method: str
    config: dict[str, Any]
    metrics: dict[str, Any]
    verdict: str

    def write(self, name: str, run: Run, libraries: Sequence[str] = LIBRARIES) -> None:
        """Write `check-<name>.json` into the run's folder, with data hashes, commit, environment and time of the run.

        Figures and verdict are printed too.
        """
        run.config, run.metrics = self.config, self.metrics
        content = run.as_json()
        del content["history"]
        content["environment"] |= {library: version(library) for library in libraries}
        words = {"title": self.title, "name": name, "question": self.question, "method": self.method}
        run.folder.mkdir(parents=True, exist_ok=True)
        path: Path = run.folder / f"check-{name}.json"
        path.write_text(json.dumps({**content, "kind": "check", **words, "verdict": self.verdict}, indent=1) + "\n")
        print(path, json.dumps(self.metrics), self.verdict, sep="\n")
