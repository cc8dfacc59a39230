"""`bundle.json`: what a bundle says of itself, validated strictly.

Version 1. Each network names its trunk's file and its preprocessing; where both networks name the same, the trunk is
kept and run once.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from models.decision import BoxCalibration, Calibration, OperatingPoints
from models.preprocess import Preprocessing
from models.types import BundleError
from models.views import View

SCHEMA_VERSION = 1
SHIPPED = Path(__file__).parent / "weights"
MANIFEST_NAME = "bundle.json"
MAXIMUM_MANIFEST_BYTES = 1_000_000

# A plain name in the bundle's own folder: no separators, no drive, no leading dot.
FileName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,60}\.safetensors$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{0,39}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Width = Annotated[float, Field(gt=0, le=1)]
# Widths of layers and the like: what a manifest asks for must not fill the memory.
Option = Annotated[int | float, Field(ge=0, le=4096, allow_inf_nan=False)]
Coefficient = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PreprocessingEntry(_Strict):
    """See `models.preprocess.Preprocessing`."""

    longest_side: int = Field(ge=64, le=4096)
    denoise: Literal["none", "median", "bilateral"]
    denoise_size: Literal[3, 5]
    stretch_percentiles: tuple[Annotated[float, Field(ge=0, lt=50)], Annotated[float, Field(gt=50, le=100)]]

    def build(self) -> Preprocessing:
        """Return the plain value that the preprocessing functions take."""
        return Preprocessing(self.longest_side, self.denoise, self.denoise_size, self.stretch_percentiles)


class ViewEntry(_Strict):
    """See `models.views.View`."""

    longest_side: int = Field(ge=64, le=4096)
    mirrored: bool = False

    def build(self) -> View:
        """Return the plain value."""
        return View(self.longest_side, self.mirrored)


class TrunkEntry(_Strict):
    """The convolution layers below a network."""

    architecture: str
    file: FileName
    width: Width | None = None  # where it is not the bundle's


class NetworkEntry(_Strict):
    """One network: its name in the registry, the options it is built with, its trunk, input and weights."""

    architecture: str
    options: dict[str, Option] = Field(default_factory=dict)
    file: FileName
    trunk: TrunkEntry
    preprocessing: PreprocessingEntry


class BoxCalibrationEntry(_Strict):
    """See `models.decision.BoxCalibration`."""

    intercept: Coefficient
    score_weight: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
    classifier_weight: Coefficient

    def build(self) -> BoxCalibration:
        """Return the plain value that computes the scores."""
        return BoxCalibration(self.intercept, self.score_weight, self.classifier_weight)


class CalibrationEntry(_Strict):
    """See `models.decision.Calibration`."""

    intercept: Coefficient
    classifier_weight: Coefficient
    detector_weight: Coefficient
    boxes: BoxCalibrationEntry | None = None
    any_box: bool = False

    def build(self) -> Calibration:
        """Return the plain value that computes the probability."""
        boxes = self.boxes.build() if self.boxes is not None else None
        return Calibration(self.intercept, self.classifier_weight, self.detector_weight, boxes, self.any_box)


class DecisionEntry(_Strict):
    """Operating points, score threshold and how they were chosen."""

    low: Probability
    high: Probability
    box_score: Probability
    rule: Line

    @model_validator(mode="after")
    def _ordered(self) -> DecisionEntry:
        if self.low > self.high:
            raise ValueError("the low operating point lies above the high one")
        return self

    def build(self) -> OperatingPoints:
        """Return the plain value that decides."""
        return OperatingPoints(self.low, self.high, self.box_score)


class FileEntry(_Strict):
    """The checksum and size of one weights file."""

    sha256: Sha256
    size_bytes: int = Field(gt=0, le=1_000_000_000)


class Licence(_Strict):
    """Who made a part of the bundle, and under which terms."""

    work: Line
    licence: Line
    attribution: Line


class Manifest(_Strict):
    """All of `bundle.json`."""

    schema_version: Literal[1]
    name: Name
    date: dt.date
    intended_use: Line
    width: Width = 1.0
    classifier: NetworkEntry
    detector: NetworkEntry
    # How often and how the detector looks; nothing here means once, at its preprocessing's size.
    detector_views: tuple[ViewEntry, ...] = Field(default=(), max_length=8)
    # The classifier's logit from which on the detector is asked at all; nothing here means every image.
    detector_from_logit: Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)] | None = None
    calibration: CalibrationEntry
    decision: DecisionEntry
    files: dict[FileName, FileEntry]
    training_data: Line
    licences: tuple[Licence, ...] = Field(min_length=1)
    metrics: dict[str, Any]

    @model_validator(mode="after")
    def _files_are_named(self) -> Manifest:
        named = {entry.file for entry in (self.classifier, self.detector)}
        named |= {entry.trunk.file for entry in (self.classifier, self.detector)}
        if named != set(self.files):
            odd = ", ".join(sorted(named ^ set(self.files)))
            raise ValueError(f"the networks and the list of files disagree about {odd}")
        return self

    def views(self) -> tuple[View, ...]:
        """Return the detector's looks at an image."""
        looks = tuple(entry.build() for entry in self.detector_views)
        return looks or (View(self.detector.preprocessing.longest_side),)

    @property
    def version(self) -> str:
        """`<date>-<name>+<8 hex digits>`: the digits change with everything that can change an answer."""
        silent: dict[str, Any] = dict.fromkeys(("intended_use", "training_data", "licences", "metrics"), True)
        # Fields that came later count only where they are used, so that an older bundle keeps its version.
        if not self.detector_views:
            silent["detector_views"] = True
        if not self.calibration.any_box:
            silent["calibration"] = {"any_box"}
        answering = self.model_dump(mode="json", exclude=silent, exclude_none=True)
        digest = hashlib.sha256(json.dumps(answering, sort_keys=True).encode()).hexdigest()
        return f"{self.date.isoformat()}-{self.name}+{digest[:8]}"


def read_weights(path: Path, entry: FileEntry) -> bytes:
    """Read a weights file once and return the very bytes whose size and SHA-256 were compared; raises BundleError."""
    try:
        size = path.stat().st_size
        if size != entry.size_bytes:
            raise BundleError(f"{path.name} has {size} bytes instead of {entry.size_bytes}")
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path.name} is missing or unreadable") from error
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise BundleError(f"{path.name} does not match its SHA-256: the file was changed or damaged")
    return content


def read_manifest(folder: Path) -> Manifest:
    """Read and validate `bundle.json` alone, without torch; raises BundleError."""
    path = folder / MANIFEST_NAME
    try:
        if path.stat().st_size > MAXIMUM_MANIFEST_BYTES:
            raise BundleError(f"{MANIFEST_NAME} is larger than {MAXIMUM_MANIFEST_BYTES} bytes")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise BundleError(f"no readable {MANIFEST_NAME} in {folder}") from error
    except ValueError as error:
        raise BundleError(f"{MANIFEST_NAME} is not JSON") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise BundleError(f"{MANIFEST_NAME} has schema version {version!r}; this program reads {SCHEMA_VERSION}")
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "as a whole"
        raise BundleError(f"{MANIFEST_NAME} is wrong at {where}: {first['msg']}") from error
