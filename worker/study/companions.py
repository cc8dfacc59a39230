"""The report's companions: which images get a marked image or a presentation state, and what came of it.

A companion shows what the report says. It is never worth a report: whatever goes wrong with one is its own reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import structlog
from numpy.typing import NDArray

from dicom_io.errors import DicomError
from dicom_io.pixels.frames import DisplayedFrame, read_displayed
from dicom_io.report.capture import build_capture
from dicom_io.report.companion import CompanionContent
from dicom_io.report.presentation import build_presentation
from dicom_io.report.structured_report import BuiltObject, ReportContent
from dicom_io.types import Outcome, ReportedImage, ReportReference
from models.types import ImageError
from worker.errors import EnvironmentUnfit, WorkerError
from worker.settings.delivery import MarkedImages
from worker.study.outcomes import gravity, shortened

log = structlog.get_logger(__name__)

Kind = Literal["capture", "presentation"]
ANSWERED = (Outcome.PRESENT, Outcome.INCONCLUSIVE, Outcome.ABSENT)
MOST_FRAMES = 8
"""Frames of one study that get companions, the gravest first: a series of hundreds must not become as many pictures."""

KEPT_BYTES = 128 << 20
"""Pixels and heat maps of one study that wait in memory for its report, at most: several are analysed at once."""


@dataclass(frozen=True, slots=True)
class CompanionRule:
    """Which companions a site wants. `marked_image` findings: of images that are not absent."""

    marked_image: MarkedImages = "never"
    presentation_state: bool = False
    heat_map: bool = False

    def kinds(self, image: ReportedImage, shown: DisplayedFrame | None = None) -> tuple[Kind, ...]:
        """Return what an image gets; a presentation state only where boxes are on a grey image."""
        found: list[Kind] = []
        if self.marked_image == "always" or (self.marked_image == "findings" and image.outcome is not Outcome.ABSENT):
            found.append("capture")
        grey = shown is None or shown.softcopy is not None
        if self.presentation_state and image.boxes and grey:
            found.append("presentation")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class BuiltCompanion:
    """A companion that was built, or the reason why it could not be."""

    kind: Kind
    number: int
    report: BuiltObject | None = None
    reason: str | None = None


Explain = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Pictures:
    """The frames of one study that get companions, kept as they were analysed, so that none is decoded twice.

    What does not fit into `KEPT_BYTES`, and what nobody showed to `see`, is read again from its file.

    Parameters
    ----------
    rule : CompanionRule
        Which companions are wanted.
    explain : callable, optional
        Makes the heat map of a frame; None where there is nobody to ask.
    """

    def __init__(self, rule: CompanionRule, explain: Explain | None = None) -> None:
        self.rule = rule
        self._explain = explain if rule.heat_map else None
        self._kept: list[tuple[ReportedImage, DisplayedFrame, NDArray[np.float32] | None]] = []

    def see(self, image: ReportedImage, frame: DisplayedFrame) -> None:
        """Keep a frame that was analysed a moment ago if it is one of those chosen so far."""
        candidates = [each for each, _, _ in self._kept]
        chosen = _chosen([*candidates, image], self.rule)
        self._kept = [each for each in self._kept if each[0] in chosen]
        room = KEPT_BYTES - sum(_bytes(shown, heat) for _, shown, heat in self._kept)
        if image in chosen and _bytes(frame, frame.pixels) <= room:
            self._kept.append((image, frame, self._heat_now(image, frame)))

    def _heat_now(self, image: ReportedImage, frame: DisplayedFrame) -> NDArray[np.float32] | None:
        """Ask for the heat map while the model still has its forward pass of the frame."""
        if self._explain is None or "capture" not in self.rule.kinds(image, frame):
            return None
        try:
            return self._explain(frame.pixels)
        except WorkerError:
            raise
        except Exception:  # noqa: BLE001 - it is asked for again when the picture is made, whose reason it becomes
            return None

    def shown(self, image: ReportedImage) -> DisplayedFrame:
        """Return a frame of the report; errors as `read_displayed` where it was not kept."""
        for each, frame, _ in self._kept:
            if _place(each) == _place(image):
                return frame
        return read_displayed(image.path, image.frame_number)

    def heat(self, image: ReportedImage, frame: DisplayedFrame) -> NDArray[np.float32] | None:
        """Return a frame's heat map, None where none is wanted; errors as the model's."""
        for each, _, heat in self._kept:
            if _place(each) == _place(image) and heat is not None:
                return heat
        return None if self._explain is None else self._explain(frame.pixels)


def _place(image: ReportedImage) -> tuple[Path, int]:
    return image.path, image.frame_number


def _bytes(frame: DisplayedFrame, heat: NDArray[np.float32] | None) -> int:
    return frame.pixels.nbytes + (0 if heat is None else heat.nbytes)


def build_companions(content: ReportContent, report: ReportReference, pictures: Pictures) -> Iterator[BuiltCompanion]:
    """Build the companions of a report, one after the other.

    1. Choose the frames: those with findings; of an instance without, its first if marked images are wanted always.
    2. Take each as it was analysed, with its heat map if that is wanted.
    3. Build what it gets. What cannot be built comes with its reason.
    """
    counts: dict[Kind, int] = {"capture": 0, "presentation": 0}
    for image in chosen_images(content.images, pictures.rule):
        shown = _shown(image, pictures)
        for kind in pictures.rule.kinds(image, None if isinstance(shown, str) else shown):
            counts[kind] += 1
            if isinstance(shown, str):
                yield BuiltCompanion(kind, counts[kind], reason=shown)
                continue
            companion = CompanionContent(
                image=image,
                number=counts[kind],
                report=report,
                algorithm=content.algorithm,
                content_datetime=content.content_datetime,
            )
            yield _made(companion, kind, shown, pictures)


def _shown(image: ReportedImage, pictures: Pictures) -> DisplayedFrame | str:
    """Return a frame; a str is the reason why that cannot be."""
    try:
        return pictures.shown(image)
    except DicomError as error:
        return shortened(str(error))
    except OSError as error:
        return f"the image's file cannot be read: {error.strerror}"
    except Exception as error:  # noqa: BLE001 - as below
        return f"unexpected error ({type(error).__name__})"


def _made(content: CompanionContent, kind: Kind, shown: DisplayedFrame, pictures: Pictures) -> BuiltCompanion:
    try:
        if kind == "presentation":
            return BuiltCompanion(kind, content.number, build_presentation(content, shown))
        content = replace(content, heat=pictures.heat(content.image, shown))
        return BuiltCompanion(kind, content.number, build_capture(content, shown))
    except (DicomError, ImageError) as error:
        return BuiltCompanion(kind, content.number, reason=shortened(str(error)))
    except EnvironmentUnfit:
        raise
    except Exception as error:  # noqa: BLE001 - a picture must never cost the report that it goes with
        # The name alone: messages of foreign errors may quote a header.
        return BuiltCompanion(kind, content.number, reason=f"unexpected error ({type(error).__name__})")


def chosen_images(images: Sequence[ReportedImage], rule: CompanionRule) -> list[ReportedImage]:
    """Return the images that get companions, in the order of the report."""
    chosen = _chosen(images, rule)
    if len(chosen) == MOST_FRAMES < len(images):
        log.info("companions_limited", frames=len(images), most=MOST_FRAMES)
    return chosen


def _chosen(images: Sequence[ReportedImage], rule: CompanionRule) -> list[ReportedImage]:
    wanted = [image for image in images if image.outcome in ANSWERED and rule.kinds(image)]
    # Of an instance, frames without findings are worth one picture, and only where no other frame of it has any.
    shown = {image.path for image in wanted if image.outcome is not Outcome.ABSENT}
    chosen = []
    for image in wanted:
        if image.outcome is Outcome.ABSENT:
            if image.path in shown:
                continue
            shown.add(image.path)
        chosen.append(image)
    wanted = chosen
    if len(wanted) <= MOST_FRAMES:
        return wanted
    gravest = sorted(wanted, key=lambda each: gravity(each.outcome, each.probability))
    return [image for image in wanted if image in gravest[:MOST_FRAMES]]
