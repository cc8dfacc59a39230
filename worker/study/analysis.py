"""The one way from an image's frames to its answers, for the worker, `analyze`, `evaluate` and the page alike.

An answer has three shapes: the model's (`models.types.ImageAnalysis`), the one that is kept (`ImageOutcome`, a row of
image_results), and the one that a report and a picture show (`dicom_io.types.ReportedImage`).

Whatever is wrong with one image is a `failed` answer with its reason. What is wrong with the machine (a disk, a device,
memory, the bundle, the lease) is no answer at all: it is raised, and the work is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from dicom_io.errors import DicomError, PixelDataMissing, StoreError
from dicom_io.types import Box, Frame, Outcome
from models.types import ImageAnalysis, ImageError, ModelError
from worker.errors import WorkerError
from worker.study.outcomes import UNLIKE_CODE, ImageOutcome, shortened

log = structlog.get_logger(__name__)

Analyse = Callable[[NDArray[np.float32]], ImageAnalysis]
F = TypeVar("F", bound=Frame)

_OF_THE_MACHINE = (OSError, MemoryError, ModelError, StoreError, WorkerError)


@dataclass(frozen=True, slots=True)
class FrameSource:
    """Which image it is: its row in SQL, None for a file that has none, and the frames that its header declares."""

    instance_id: int | None = None
    number_of_frames: int = 1


def analyse_frames(
    frames: Iterator[F], analyse: Analyse, source: FrameSource
) -> Iterator[tuple[ImageOutcome, F | None]]:
    """Yield the answer for each frame, with the frame as it was analysed, None where it could not be decoded.

    1. Decode the next frame. A decoder that gave up does not go on: one failed answer stands for all frames left.
    2. Ask the model. An image that it cannot take is failed; the next frame is analysed all the same.
    3. Frames that the header declares and nobody saw are failed, as is an image without any.

    Raises
    ------
    OSError, models.types.ModelError, dicom_io.errors.StoreError, worker.errors.WorkerError
        The fault is the machine's and says nothing of the image. So are a model's MemoryError and RuntimeError, which
        is what torch raises for a device that is lost or full; a decoder's MemoryError is the image's, which may ask
        for any amount.
    """
    number = 0
    try:
        while (frame := _next(frames)) is not None:
            number = frame.number
            yield _answer(frame, analyse, source), frame
        if number < max(source.number_of_frames, 1):
            raise PixelDataMissing("the image has no frame" if number == 0 else "the pixel data end early")
    except StoreError:
        raise
    except DicomError as error:
        yield _unread(source, number, error.code, str(error)), None


def _next(frames: Iterator[F]) -> F | None:
    """Return the next frame, None after the last; what nobody foresaw is the image's own fault."""
    try:
        return next(frames, None)
    except (DicomError, OSError, WorkerError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one image must not end the others
        raise _unexpected(error) from None


def _answer(frame: Frame, analyse: Analyse, source: FrameSource) -> ImageOutcome:
    try:
        said = analyse(frame.pixels)
    except ImageError as error:
        return _failed(source, frame.number, "image", str(error), frame.values_digest)
    except (*_OF_THE_MACHINE, RuntimeError):
        raise
    except Exception as error:  # noqa: BLE001 - as above
        found = _unexpected(error)
        return _failed(source, frame.number, found.code, str(found), frame.values_digest)
    if not 0 <= said.probability <= 1:  # nor is NaN, which a comparison with an operating point does not notice
        return _failed(source, frame.number, "image", "the model's answer is no probability", frame.values_digest)
    return ImageOutcome(
        instance_id=source.instance_id,
        frame_number=frame.number,
        outcome=Outcome(said.decision.value),
        probability=float(said.probability),
        boxes=tuple(Box(box.x1, box.y1, box.x2, box.y2, box.score) for box in said.boxes),
        reason_code=None if said.reason is None else UNLIKE_CODE,
        reason=said.reason,
        seconds=said.seconds,
        classifier_probability=said.classifier_probability,
        detector_score=said.detector_score,
        unlikeness=said.unlikeness,
        values_digest=frame.values_digest,
        warnings=tuple(dict.fromkeys(frame.warnings)),
    )


class Unexpected(DicomError):
    """What nobody foresaw about one image."""

    code = "pixels"


def _unexpected(error: Exception) -> Unexpected:
    # The name alone: messages of foreign errors may quote a header.
    log.warning("image_unreadable", error=type(error).__name__)
    return Unexpected(f"unexpected error ({type(error).__name__})")


def _failed(source: FrameSource, number: int, code: str, reason: str, digest: str | None = None) -> ImageOutcome:
    words = shortened(" ".join(reason.split()))
    return ImageOutcome(
        source.instance_id, number, Outcome.FAILED, reason_code=code, reason=words, values_digest=digest
    )


def _unread(source: FrameSource, last: int, code: str, reason: str) -> ImageOutcome:
    """Return the outcome of what comes after the last frame that could be read.

    Frame number 0 stands for an instance of several frames of which none could be read.
    """
    if source.number_of_frames <= 1:
        return _failed(source, max(last, 1), code, reason)
    if last == 0:
        return _failed(source, 0, code, reason)
    words = f"{reason}; frames {last + 1} to {source.number_of_frames} were not analysed"
    return _failed(source, last + 1, code, words if last + 1 < source.number_of_frames else reason)
