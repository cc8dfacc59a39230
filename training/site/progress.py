"""What an interrupted run of a site keeps, so that the same command goes on where it was.

It lies in the folder `unfinished` of the run and is removed when the run is done. Features and weights lie there, made
from patients' images; decoded images do not.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.runs import load_checkpoint, save_checkpoint
from training.site.labels import SiteDataError
from training.site.split import Split

FOLDER = "unfinished"
DECODED = "work"
"""The folder of decoded images, where nobody asked for another; it is made anew by the run that goes on."""
_OF = "of.json"


@dataclass(frozen=True, slots=True)
class Progress:
    """The folder of what is done so far; `begin` makes or finds it."""

    folder: Path

    @classmethod
    def begin(cls, out: Path, bundle_version: str, split: Split, choices: dict[str, int]) -> Progress:
        """Make the folder, or go on with the one that is there.

        Raises
        ------
        SiteDataError
            It holds a run of other images, labels, choices or of another bundle.
        """
        folder = out / FOLDER
        mine = _digest([bundle_version, choices, _content(split)])
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (folder / _OF).exists():
            if json.loads((folder / _OF).read_text()) != mine:
                raise SiteDataError(
                    f"{out} holds an interrupted run of other images, labels or options, or of another bundle: name "
                    "another folder, or remove it"
                )
        else:
            (folder / _OF).write_text(json.dumps(mine))
        return cls(folder)

    @property
    def features(self) -> Path:
        """The folder of the classifier's features, one file an image."""
        return self.folder / "features"

    @property
    def detector(self) -> Path:
        """The folder of the detector's training."""
        return self.folder / "detector"

    def load(self, part: str) -> dict[str, Any] | None:
        """Return what was saved of a part, None where nothing was."""
        return load_checkpoint(self.folder / f"{part}.pt")

    def save(self, part: str, state: dict[str, Any]) -> None:
        """Save tensors and plain values of a part, whole or not at all."""
        save_checkpoint(self.folder / f"{part}.pt", state)

    def end(self) -> None:
        """Remove the folder: the run is done."""
        shutil.rmtree(self.folder)


def is_unfinished(out: Path) -> bool:
    """Tell whether a folder holds an interrupted run, perhaps one that had not begun to learn."""
    return (out / FOLDER / _OF).exists() or {path.name for path in out.iterdir()} <= {FOLDER, DECODED}


def _content(split: Split) -> list[Any]:
    """Return what a run learns from: which image is in which part, its file, label and boxes."""
    return [
        [part, item.name, item.path.name, item.path.stat().st_size, item.fractured, item.boxes_xyxy]
        for part, items in (("train", split.train), ("tune", split.tune), ("held_back", split.held_back))
        for item in items
    ]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
