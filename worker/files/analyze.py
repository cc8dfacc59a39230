"""The logic of `bonewatch analyze`: one file in, one answer out, without services and without a database."""

from __future__ import annotations

import hashlib
import time
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
from dicom_io.pixels.frames import read_frames
from dicom_io.pixels.jpeg_entropy import check_jpeg
from dicom_io.pixels.overwritten import check_overwritten
from dicom_io.pixels.visibility import made_visible
from dicom_io.types import Box, Frame, InstanceHeader, Outcome, ReportedImage
from models.images import load_picture
from models.types import ImageAnalysis, ImageError
from worker.files.candidates import Candidate, Kind
from worker.study.outcomes import gravest, gravity

Pixels = NDArray[np.float32]


class Model(Protocol):
    """The model (`models.analyzer.Analyzer`)."""

    @property
    def version(self) -> str:
        """The bundle's version."""

    def analyze(self, pixels: Pixels, minimum_score: float | None = None) -> ImageAnalysis:
        """Analyse one image."""


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What was said of one frame; a picture has one, number 1. A frame of number 0 is the whole file."""

    number: int
    outcome: Outcome
    probability: float | None = None
    boxes: tuple[Box, ...] = ()
    reason: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileResult:
    """What was said of one file: the gravest of its frames.

    `frames` holds all of them, `pixels` the image of the gravest one; both are empty where nothing was analysed.
    `aspect` is the height of a pixel divided by its width. `orientation` is what a picture file says of its stored
    pixels (Exif, 1 is upright); image and boxes are turned by it.
    """

    path: Path
    outcome: Outcome
    reason: str | None = None
    sop_instance_uid: str | None = None
    frame: FrameResult | None = None
    model_version: str | None = None
    seconds: float | None = None
    frames: tuple[FrameResult, ...] = ()
    pixels: Pixels | None = None
    header: InstanceHeader | None = None
    aspect: float = 1.0
    orientation: int = 1

    def without_pixels(self) -> FileResult:
        """Return the answer alone, so that a long list of them holds no images."""
        return replace(self, pixels=None)

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
    """What files are analysed with. `model` is called at the first image, so that no bad file waits for it."""

    model: Callable[[], Model]
    rule: ScopeRule
    minimum_score: float | None = None


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
    try:
        if candidate.kind is Kind.PICTURE:
            return _analyze_picture(candidate.path, context)
        return _analyze_dicom(candidate.path, context)
    except (DicomError, ImageError) as error:
        return FileResult(candidate.path, Outcome.FAILED, _one_line(str(error)))
    except OSError as error:
        return FileResult(candidate.path, Outcome.FAILED, f"the file cannot be read: {error.strerror}")


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
    answer = _summary(path, None, iter([Frame(1, pixels, warnings=warnings)]), context)
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
    path: Path, header: InstanceHeader | None, frames: Iterator[Frame], context: AnalysisContext
) -> FileResult:
    """Analyse frame after frame and keep the image of the gravest one so far."""
    answers: list[FrameResult] = []
    chosen: FrameResult | None = None
    image: Frame | None = None
    seconds = 0.0
    for answer, frame, spent in _frame_answers(frames, context):
        answers.append(answer)
        seconds += spent
        if chosen is None or _gravity(answer) < _gravity(chosen):
            chosen, image = answer, frame
    if chosen is None:
        return FileResult(path, Outcome.FAILED, "the image has no frame")
    uid = None if header is None else header.sop_instance_uid
    version = context.model().version if any(each.probability is not None for each in answers) else None
    return FileResult(
        path=path,
        outcome=gravest(answer.outcome for answer in answers),
        reason=next((answer.reason for answer in answers if answer.reason is not None), None),
        sop_instance_uid=uid,
        frame=chosen,
        model_version=version,
        seconds=round(seconds, 4),
        frames=tuple(answers),
        pixels=None if image is None else image.pixels,
        header=header,
        aspect=1.0 if image is None else image.aspect,
    )


def _gravity(answer: FrameResult) -> tuple[int, float]:
    return gravity(answer.outcome, answer.probability)


def _frame_answers(
    frames: Iterator[Frame], context: AnalysisContext
) -> Iterator[tuple[FrameResult, Frame | None, float]]:
    """Yield answer, image and seconds of each frame; a decoder that gives up ends it with a failed frame."""
    number = 0
    started = time.perf_counter()
    while True:
        try:
            frame = next(frames)
        except StopIteration:
            return
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one file must not end the others
            # Before the first frame nothing is known of frames: the file as a whole has failed (number 0).
            failed = FrameResult(number + 1 if number else 0, Outcome.FAILED, reason=_words(error))
            yield failed, None, time.perf_counter() - started
            return
        number = frame.number
        model = context.model()
        started = time.perf_counter()  # loading the model is not this image's time
        answer = _analyze_frame(frame, model, context.minimum_score)
        yield answer, frame, time.perf_counter() - started
        started = time.perf_counter()


def _analyze_frame(frame: Frame, model: Model, minimum_score: float | None) -> FrameResult:
    try:
        analysis = model.analyze(frame.pixels, minimum_score)
    except ImageError as error:
        return FrameResult(frame.number, Outcome.FAILED, reason=_one_line(str(error)))
    boxes = tuple(Box(each.x1, each.y1, each.x2, each.y2, each.score) for each in analysis.boxes)
    outcome = Outcome(analysis.decision.value)
    return FrameResult(
        frame.number, outcome, analysis.probability, boxes, reason=analysis.reason, warnings=frame.warnings
    )


def _words(error: Exception) -> str:
    """Return an error's reason; of a foreign one the name alone, for its message may quote a header."""
    if isinstance(error, (DicomError, ImageError)):
        return _one_line(str(error))
    return f"unexpected error ({type(error).__name__})"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def reported_images(answer: FileResult, box_score: float) -> tuple[ReportedImage, ...]:
    """Return a DICOM file's frames as a report takes them, with the boxes at or above the bundle's threshold.

    A list of candidates asked for with `--min-score` is for looking at; a report holds findings.
    """
    answered = (Outcome.PRESENT, Outcome.INCONCLUSIVE)
    return tuple(
        reported_image(
            answer,
            frame,
            tuple(box for box in frame.boxes if box.score >= box_score) if frame.outcome in answered else (),
        )
        for frame in answer.frames
    )


def reported_image(answer: FileResult, frame: FrameResult, boxes: tuple[Box, ...]) -> ReportedImage:
    """Return a frame with these boxes, as a report or a marked image takes it."""
    return ReportedImage(
        path=answer.path.absolute(),
        frame_number=frame.number,
        outcome=frame.outcome,
        probability=frame.probability,
        boxes=boxes,
        reason=frame.reason,
    )


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, the identity of what a report of `analyze` is about."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def local_now() -> datetime:
    """Return the moment with this machine's offset, as a report's wall clock shows it."""
    return datetime.now().astimezone()
