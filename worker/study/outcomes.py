"""From the answers for images to the one answer for a study.

The study takes the gravest of its images: present, inconclusive, failed, absent, out_of_scope, in that order. Its
probability is that of the gravest image: the highest one among the images that have the study's outcome. A study
that is failed or out of scope therefore has none: a number beside "failed" would read as an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_io.types import Box, Outcome, ReportedImage

GRAVEST_FIRST = (Outcome.PRESENT, Outcome.INCONCLUSIVE, Outcome.FAILED, Outcome.ABSENT, Outcome.OUT_OF_SCOPE)
LONGEST_REASON = 500
UNLIKE_CODE = "unlike"
_FINDINGS = {
    Outcome.PRESENT: "possible fracture in",
    Outcome.INCONCLUSIVE: "no clear answer (between the operating points, or classifier and detector disagree) in",
}


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """The answer for one frame of one instance; `probability` is None exactly where it was not analysed.

    `classifier_probability` and `detector_score` are what either network said by itself, `unlikeness` how unlike the
    training images the image is (above 1: inconclusive with the reason). `values_digest` is the identity of the frame's
    stored values, None where it could not be decoded. `warnings` say which attributes of an analysed image were left
    aside or mended. `instance_id` is the instance's row, None for a file that has none.
    """

    instance_id: int | None
    frame_number: int
    outcome: Outcome
    probability: float | None = None
    boxes: tuple[Box, ...] = ()
    reason_code: str | None = None
    reason: str | None = None
    seconds: float | None = None
    classifier_probability: float | None = None
    detector_score: float | None = None
    unlikeness: float | None = None
    values_digest: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StudyOutcome:
    """The answer for a study, with its reason in words."""

    outcome: Outcome
    probability: float | None = None
    reason: str | None = None


def gravest(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the gravest of at least one outcome."""
    return min(outcomes, key=GRAVEST_FIRST.index)


def gravity(outcome: Outcome, probability: float | None) -> tuple[int, float]:
    """Return a key that sorts images: the gravest outcome first, then the highest probability."""
    return GRAVEST_FIRST.index(outcome), -(probability or 0.0)


def reported(image: ImageOutcome, path: Path) -> ReportedImage:
    """Return the answer for a frame of this file as a report and a picture show it."""
    return ReportedImage(path, image.frame_number, image.outcome, image.probability, image.boxes, image.reason)


def study_outcome(images: Sequence[ImageOutcome], out_of_scope_reasons: Iterable[str] = ()) -> StudyOutcome:
    """Return the study's outcome, probability and reason.

    Parameters
    ----------
    images : sequence of ImageOutcome
        Every frame in scope; none for a study that has nothing to analyse.
    out_of_scope_reasons : iterable of str
        Why the other instances were left out, in words; used where nothing is in scope.
    """
    if not images:
        reason = joined(out_of_scope_reasons) or "the study holds nothing to analyse"
        return StudyOutcome(Outcome.OUT_OF_SCOPE, reason=reason)
    outcome = gravest(image.outcome for image in images)
    of_outcome = [image for image in images if image.outcome is outcome]
    probability = max((image.probability for image in of_outcome if image.probability is not None), default=None)
    return StudyOutcome(outcome, probability, _reason(images, outcome, len(of_outcome)))


def failed(reason: str) -> StudyOutcome:
    """Return the outcome of a study that could not be analysed as a whole."""
    return StudyOutcome(Outcome.FAILED, reason=shortened(reason))


def joined(reasons: Iterable[str]) -> str:
    """Join different reasons, each once and in order of appearance, into one short text."""
    return shortened("; ".join(dict.fromkeys(reasons)))


def shortened(text: str) -> str:
    """Return the text, cut where it would be longer than a table can show."""
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 3] + "..."


def _reason(images: Sequence[ImageOutcome], outcome: Outcome, count: int) -> str | None:
    parts = []
    if outcome in _FINDINGS:
        parts.append(f"{_FINDINGS[outcome]} {count} of {_images(len(images))}")
    unlike = [image for image in images if image.outcome is Outcome.INCONCLUSIVE and image.reason]
    if unlike:
        reasons = joined(image.reason or "" for image in unlike)
        parts.append(f"{len(unlike)} of {_images(len(images))} cannot be answered: {reasons}")
    unread = [image for image in images if image.outcome is Outcome.FAILED]
    if unread:
        reasons = joined(image.reason or "no reason given" for image in unread)
        parts.append(f"{len(unread)} of {_images(len(images))} could not be analysed: {reasons}")
    return shortened("; ".join(parts)) or None


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
