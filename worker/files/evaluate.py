"""The logic of `bonewatch evaluate`: labelled files in, figures out, through the very steps of `analyze`.

1. Each file is decoded and analysed as `analyze` does; what fails or is out of scope is listed and never a negative.
2. A multi-frame image is judged by its gravest frame; a fractured one says nothing of boxes, as truth names no frame.
3. `training.evaluate.figures` measures what is left, patient by patient where every image's patient is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dicom_io.header.scope import ScopeRule
from dicom_io.types import Outcome
from models.analyzer import Analyzer
from models.manifest import Manifest
from models.types import ImageAnalysis
from training.data.dataset import Radiograph
from training.evaluate.figures import measure
from training.evaluate.predictions import Prediction, cost_of
from training.site.data import Patients
from worker.files.analyze import AnalysisContext, FileResult, Pixels, analyze_file
from worker.files.labels import Matched, Matching

# A box that a drawing program rounded up ends less than a pixel outside.
ROUNDING = 1.0


class Recorder:
    """A model for one file that keeps what the networks said of each frame, by number."""

    def __init__(self, analyzer: Analyzer, radiograph: Radiograph) -> None:
        self._analyzer, self._radiograph = analyzer, radiograph
        self._frames = 0
        self.predictions: dict[int, Prediction] = {}

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self._analyzer.version

    def analyze(self, pixels: Pixels, minimum_score: float | None = None) -> ImageAnalysis:
        """Analyse the file's next frame as the product does."""
        self._frames += 1  # also of a frame that is refused: the next one keeps its own number
        analysis, networks = self._analyzer.analyze_with_networks(pixels, minimum_score)
        self.predictions[self._frames] = Prediction(
            self._radiograph, networks.logit, networks.candidates, analysis.seconds
        )
        return analysis


@dataclass
class Evaluation:
    """What has been measured so far, and what could not be."""

    matching: Matching
    analyzer: Analyzer
    manifest: Manifest
    rule: ScopeRule
    patients: Patients = field(default_factory=Patients)
    predictions: list[Prediction] = field(default_factory=list)
    failed: list[FileResult] = field(default_factory=list)
    out_of_scope: list[FileResult] = field(default_factory=list)
    multi_frame: list[Path] = field(default_factory=list)
    boxes_outside: list[Path] = field(default_factory=list)
    turned: list[Path] = field(default_factory=list)

    def run(self) -> Iterator[FileResult]:
        """Analyse file after file; yields each answer, without its pixels, once it is counted."""
        for item in self.matching.matched:
            yield self._analyze(item).without_pixels()

    def _analyze(self, item: Matched) -> FileResult:
        recorder = Recorder(self.analyzer, _radiograph(item))
        answer = analyze_file(item.candidate, AnalysisContext(lambda: recorder, self.rule))
        if answer.outcome is Outcome.OUT_OF_SCOPE:
            self.out_of_scope.append(answer.without_pixels())
        elif answer.outcome is Outcome.FAILED or answer.frame is None:
            self.failed.append(answer.without_pixels())
        else:
            self.predictions.append(self._judged(item, answer, recorder.predictions[answer.frame.frame_number]))
        return answer

    def _judged(self, item: Matched, answer: FileResult, said: Prediction) -> Prediction:
        """Add what the header says where the labels do not."""
        part = answer.header.body_part_examined if answer.header is not None else None
        patient = item.truth.label.patient_id or (answer.header.patient_id if answer.header is not None else None)
        radiograph = replace(
            said.radiograph,
            patient=self.patients.word(patient) if patient else None,
            body_parts=item.truth.body_parts or ((part.lower(),) if part else ()),
        )
        if len(answer.frames) > 1 and item.truth.label.fractured:
            self.multi_frame.append(answer.path)
            radiograph = replace(radiograph, boxes_xyxy=())
        elif answer.pixels is not None and _leave(item, answer.pixels):
            self.boxes_outside.append(answer.path)
        if item.boxes_xyxy and answer.orientation != 1:
            self.turned.append(answer.path)
        return replace(said, radiograph=radiograph)

    def result(self) -> dict[str, Any]:
        """Return the figures, the cost and the lists of what was not measured; `figures` is None without any image."""
        return {
            "bundle": self.analyzer.version,
            "measured": len(self.predictions),
            "not_measured": self.left_out(),
            "figures": self._figures(),
            "cost": cost_of(self.analyzer, self.predictions) if self.predictions else None,
        }

    def _figures(self) -> dict[str, Any] | None:
        if not self.predictions:
            return None
        return measure(self.predictions, self.manifest.calibration.build(), self.manifest.decision.build())

    def left_out(self) -> dict[str, Any]:
        """List what could not be measured, and why."""
        matching = self.matching
        return {
            "failed": [{"path": str(answer.path), "reason": answer.reason} for answer in self.failed],
            "out_of_scope": [{"path": str(answer.path), "reason": answer.reason} for answer in self.out_of_scope],
            "labels_without_file": list(matching.labels_without_file),
            "files_without_label": [str(path) for path in matching.files_without_label],
            "labels_of_other_splits": matching.labels_of_other_splits,
            "boxes_without_file": list(matching.boxes_without_file),
            "boxes_outside_their_image": [str(path) for path in self.boxes_outside],
            "boxes_taken_as_drawn_on_the_upright_picture": [str(path) for path in self.turned],
            "multi_frame_images_left_out_of_box_figures": [str(path) for path in self.multi_frame],
        }

    @property
    def is_whole(self) -> bool:
        """Whether every label of the split was measured."""
        return not (self.failed or self.matching.labels_without_file) and bool(self.predictions)


def _radiograph(item: Matched) -> Radiograph:
    truth = item.truth
    return Radiograph(
        name=item.candidate.name.as_posix(),
        path=item.candidate.path,
        split=truth.split or "all",
        fractured=truth.label.fractured,
        truncated=False,
        body_parts=truth.body_parts,
        boxes_xyxy=item.boxes_xyxy,
        views=truth.views,
        hardware=truth.hardware,
    )


def _leave(item: Matched, pixels: Pixels) -> bool:
    rows, columns = pixels.shape
    return any(
        min(x1, y1) < -ROUNDING or x2 > columns + ROUNDING or y2 > rows + ROUNDING for x1, y1, x2, y2 in item.boxes_xyxy
    )
