"""What a report says in words, for the many viewers that show nothing but text.

Plain ASCII, so that it reads the same under every character set. Nothing here may make an image without an answer read
as a negative one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicom_io.report.text import plain
from dicom_io.types import Outcome, ReportedImage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dicom_io.report.source import SourceImage

DISCLAIMER = "AI result: not verified; decision support, not a diagnosis."
NOT_NEGATIVE = "This is not a negative result."


def image_name(number: int, total: int, source: SourceImage, frame_number: int) -> str:
    """Name an image the way a reader finds it in the study."""
    found_by = [
        f"series {source.series_number}" if source.series_number else "",
        f"image {source.instance_number}" if source.instance_number else "",
        f"frame {frame_number}" if source.number_of_frames > 1 and frame_number else "",
        " ".join(part for part in (source.body_part, source.view_position, source.laterality) if part),
    ]
    where = ", ".join(part for part in found_by if part)
    return f"Image {number} of {total}" + (f" ({where})" if where else "")


def image_words(image: ReportedImage) -> str:
    """Say the answer for one image."""
    reason = plain(image.reason or "").rstrip(".")
    if image.outcome is Outcome.FAILED:
        return f"NOT ANALYSED, the analysis failed: {reason or 'no reason recorded'}. {NOT_NEGATIVE}"
    if image.outcome is Outcome.OUT_OF_SCOPE or image.probability is None:
        return f"NOT ANALYSED, outside the scope of the AI: {reason or 'no reason recorded'}. {NOT_NEGATIVE}"
    numbers = f"probability {_probability(image.probability)}, {_regions(len(image.boxes))}"
    if image.outcome is Outcome.PRESENT:
        return f"Possible fracture, {numbers}."
    if image.outcome is Outcome.ABSENT:
        return f"No fracture found by the AI, {numbers}."
    because = f" ({reason})" if reason else ""
    return f"INCONCLUSIVE{because}, {numbers}. A fracture is neither found nor ruled out."


def study_words(outcome: Outcome, images: Sequence[ReportedImage]) -> str:
    """Say the answer for the study, never without the images that have none."""
    count = {each: sum(image.outcome is each for image in images) for each in Outcome}
    missing = count[Outcome.FAILED]
    total = len(images) - count[Outcome.OUT_OF_SCOPE]
    if outcome is Outcome.PRESENT:
        words = f"Possible fracture in {count[Outcome.PRESENT]} of {_images(total)}."
    elif outcome is Outcome.INCONCLUSIVE:
        words = f"INCONCLUSIVE in {count[Outcome.INCONCLUSIVE]} of {_images(total)}: neither found nor ruled out."
    elif outcome is Outcome.ABSENT:
        words = f"No fracture found by the AI in {_images(total)}."
    elif outcome is Outcome.OUT_OF_SCOPE:
        return f"NOT ANALYSED: no image is within the scope of the AI. {NOT_NEGATIVE}"
    elif missing == total:
        which = "the image" if total == 1 else f"all {total} images"
        return f"ANALYSIS FAILED for {which}. {NOT_NEGATIVE}"
    else:
        return f"INCOMPLETE: {missing} of {_images(total)} could not be analysed. {NOT_NEGATIVE}"
    if missing:
        words += f" INCOMPLETE: {_images(missing)} could not be analysed."
    return words


def _probability(value: float) -> str:
    """Two decimals, never rounded to a certainty."""
    if 0.01 <= value <= 0.99:
        return f"{value:.2f}"
    return "below 0.01" if value < 0.01 else "above 0.99"


def _images(count: int) -> str:
    return f"{count} image" if count == 1 else f"{count} images"


def _regions(count: int) -> str:
    if not count:
        return "no region marked"
    return f"{count} region marked" if count == 1 else f"{count} regions marked"
