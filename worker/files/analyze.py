"""The logic of `bonewatch analyze`: one file in, one answer out, without services and without a database."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dicom_io.errors import DicomError
from dicom_io.header.header import read_header
from dicom_io.header.scope import ScopeRule, out_of_scope_reason
from dicom_io.pixels.codestream import DamagedCodestream, jpeg_size, whole_jpeg
from dicom_io.pixels.frames import DisplayedFrame, read_frames
from dicom_io.pixels.jpeg_entropy import check_jpeg
from dicom_io.pixels.overwritten import check_overwritten
from dicom_io.pixels.visibility import made_visible
from dicom_io.types import InstanceHeader, Outcome, ReportedImage
from models.images import load_picture
from models.types import ImageAnalysis, ImageError, ModelError
from worker.errors import WorkerError
from worker.files.candidates import Candidate, Kind
from worker.study.analysis import FrameSource, analyse_frames
from worker.study.companions import CompanionRule, Pictures
from worker.study.outcomes import ImageOutcome, gravest, gravity, reported

Pixels = NDArray[np.float32]


class FileAnalyzer(Protocol):
    """The model (`models.analyzer.Analyzer`)."""

    @property
    def version(self) -> str:
        """The bundle's version."""

    def analyze(self, pixels: Pixels, minimum_score: float | None = None) -> ImageAnalysis:
        """Analyse one image."""


@dataclass(frozen=True, slots=True)
class FileResult:
    """What was said of one file: the gravest of its frames.

    `frames` holds all of them, `pixels` the image of the gravest one; both are empty where nothing was analysed.
    `pictures` are the frames that get companions.
    `aspect` is the height of a pixel divided by its width. `orientation` is what a picture file says of its stored
    pixels (Exif, 1 is upright); image and boxes are turned by it.
    """

    path: Path
    outcome: Outcome
    reason: str | None = None
    sop_instance_uid: str | None = None
    frame: ImageOutcome | None = None
    model_version: str | None = None
    seconds: float | None = None
    frames: tuple[ImageOutcome, ...] = ()
    pixels: Pixels | None = None
    header: InstanceHeader | None = None
    aspect: float = 1.0
    orientation: int = 1
    pictures: Pictures | None = None

    def without_pixels(self) -> FileResult:
        """Return the answer alone, so that a long list of them holds no images."""
        return replace(self, pixels=None, pictures=None)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Which attributes of the header were left aside or mended, each once."""
        return tuple(dict.fromkeys(words for frame in self.frames for words in frame.warnings))

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        if self.frame is None or self.outcome in (Outcome.FAILED, Outcome.OUT_OF_SCOPE):
            return {"path": str(self.path), "outcome": self.outcome.value, "reason": self.reason}
        answer: dict[str, Any] = {
            "path": str(self.path),
            "sop_instance_uid": self.sop_instance_uid,
            "outcome": self.outcome.value,
            "probability": self.frame.probability,
            "boxes": [{"xyxy": [box.x1, box.y1, box.x2, box.y2], "score": box.score} for box in self.frame.boxes],
            "model_version": self.model_version,
            "seconds": self.seconds,
        }
        if self.orientation != 1:
            answer["orientation"] = self.orientation
        if self.warnings:
            answer["warnings"] = list(self.warnings)
        return answer if self.reason is None else {**answer, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class AnalysisContext:
    """What files are analysed with. `model` is called at the first image, so that no bad file waits for it.

    `companions` says of which frames the images are kept, for a report's companions; None where nobody makes any.
    """

    model: Callable[[], FileAnalyzer]
    rule: ScopeRule
    minimum_score: float | None = None
    companions: CompanionRule | None = None


def analyze_file(candidate: Candidate, context: AnalysisContext) -> FileResult:
    """Analyse one file; whatever is wrong with it becomes an answer.

    Raises
    ------
    models.types.BundleError
        When there is no model to analyse with.
    """
    if candidate.obstacle is not None:
        return FileResult(candidate.path, Outcome.FAILED, candidate.obstacle)
    if candidate.kind is Kind.OTHER:
        return FileResult(candidate.path, Outcome.FAILED, "neither a DICOM file nor a JPEG, PNG, TIFF or WebP picture")
    analyze = _analyze_picture if candidate.kind is Kind.PICTURE else _analyze_dicom
    try:
        return analyze(candidate.path, context)
    except (DicomError, ImageError) as error:
        reason = " ".join(str(error).split())
    except OSError as error:
        reason = f"the file cannot be read: {error.strerror}"
    except (ModelError, WorkerError):
        raise
    except Exception as error:  # noqa: BLE001 - one file must not end the others, and nobody tries this one again
        # The name alone: messages of foreign errors may quote a header.
        reason = f"unexpected error ({type(error).__name__})"
    return FileResult(candidate.path, Outcome.FAILED, reason)


def _analyze_dicom(path: Path, context: AnalysisContext) -> FileResult:
    header = read_header(path)
    reason = out_of_scope_reason(header, context.rule)
    if reason is not None:
        return FileResult(path, Outcome.OUT_OF_SCOPE, reason, header.sop_instance_uid)
    return _summary(path, header, read_frames(path), context)


def _analyze_picture(path: Path, context: AnalysisContext) -> FileResult:
    picture = load_picture(path)
    _check_sequential_jpeg(path.read_bytes())
    for pixels in [picture.pixels] if picture.orientation == 1 else _turned(picture.pixels):
        check_overwritten(pixels)
    pixels, warnings = made_visible(picture.pixels)
    answer = _summary(path, None, iter([DisplayedFrame(1, pixels, warnings=warnings)]), context)
    return replace(answer, orientation=picture.orientation)


def _turned(pixels: Pixels) -> Iterator[Pixels]:
    """Yield a picture that was turned upright in every way in which it may have been stored."""
    for each in (pixels, pixels[::-1], pixels[:, ::-1], pixels[::-1, ::-1]):
        yield each
        yield each.T


def _check_sequential_jpeg(data: bytes) -> None:
    """Read a sequential JPEG's codes as those of a DICOM frame: damage of a few bytes is noticed, too."""
    size = jpeg_size(data)
    if size is None or size.retired:
        return
    try:
        check_jpeg(whole_jpeg(data))
    except DamagedCodestream as error:
        raise ImageError(f"the picture is damaged: {error}") from error


def _summary(
    path: Path, header: InstanceHeader | None, frames: Iterator[DisplayedFrame], context: AnalysisContext
) -> FileResult:
    """Analyse frame after frame and keep the image of the gravest one so far."""
    source = FrameSource(number_of_frames=1 if header is None else header.number_of_frames)
    answers: list[ImageOutcome] = []
    chosen: ImageOutcome | None = None
    image: DisplayedFrame | None = None
    pictures = None if context.companions is None else Pictures(context.companions)

    def analyse(pixels: Pixels) -> ImageAnalysis:
        return context.model().analyze(pixels, context.minimum_score)

    for answer, frame in analyse_frames(frames, analyse, source):
        answers.append(answer)
        if frame is not None and pictures is not None:
            pictures.see(reported(answer, path.absolute()), frame)
        if chosen is None or _gravity(answer) < _gravity(chosen):
            chosen, image = answer, frame
    return FileResult(
        path=path,
        outcome=gravest(answer.outcome for answer in answers),
        reason=next((answer.reason for answer in answers if answer.reason is not None), None),
        sop_instance_uid=None if header is None else header.sop_instance_uid,
        frame=chosen,
        model_version=context.model().version if any(each.probability is not None for each in answers) else None,
        seconds=round(sum(answer.seconds or 0.0 for answer in answers), 4),
        frames=tuple(answers),
        pixels=None if image is None else image.pixels,
        header=header,
        aspect=1.0 if image is None else image.aspect,
        pictures=pictures,
    )


def _gravity(answer: ImageOutcome) -> tuple[int, float]:
    return gravity(answer.outcome, answer.probability)


def reported_images(answer: FileResult, box_score: float) -> tuple[ReportedImage, ...]:
    """Return a DICOM file's frames as a report takes them, with the boxes at or above the bundle's threshold.

    A list of candidates asked for with `--min-score` is for looking at; a report holds findings.
    """
    answered = (Outcome.PRESENT, Outcome.INCONCLUSIVE)
    path = answer.path.absolute()
    return tuple(
        replace(
            reported(frame, path),
            boxes=tuple(box for box in frame.boxes if box.score >= box_score) if frame.outcome in answered else (),
        )
        for frame in answer.frames
    )


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, the identity of what a report of `analyze` is about."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def local_now() -> datetime:
    """Return the moment with this machine's offset, as a report's wall clock shows it."""
    return datetime.now().astimezone()
