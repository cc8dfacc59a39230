"""Contents of reports for tests: what an analysis would have found in the radiographs of `tests.builders`."""

from __future__ import annotations

import functools
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from dicom_io.report import structured_report
from dicom_io.report.structured_report import ReportContent
from dicom_io.types import Algorithm, Box, Outcome, ReportedImage
from tests.builders import write_part10

ALGORITHM = Algorithm(
    "bonewatch",
    "20261122-first+0a1b2c3d",
    "The bonewatch authors",
    ("high operating point = 0.62", "low operating point = 0.21", "score threshold = 0.3"),
)
build_report = functools.cache(structured_report.build_report)
"""Many tests look at the same few reports."""
MOMENT = datetime(2026, 11, 22, 20, 15, 30)  # noqa: DTZ001 - a report carries the wall clock
BOXES = tuple(Box(1.5 + 5 * n, 2.25 + n, 5.125 + 5 * n, 9.75 + 2 * n, 0.9 - 0.1 * n) for n in range(5))
REASON = "the pixel data are shorter than declared"


def reported(path: Path, outcome: Outcome, boxes: int = 0, frame: int = 1) -> ReportedImage:
    """Return a plausible answer of this outcome for one image, with so many boxes."""
    probability = {Outcome.PRESENT: 0.934, Outcome.INCONCLUSIVE: 0.41, Outcome.ABSENT: 0.031}.get(outcome)
    reason = None if probability is not None else REASON
    return ReportedImage(path, frame, outcome, probability, BOXES[:boxes], reason)


def content_of(*images: ReportedImage, **overrides: Any) -> ReportContent:
    """Return a report's content; the outcome is the gravest of the images' unless given."""
    fields: dict[str, Any] = {
        "images": images,
        "outcome": next(each for each in Outcome if any(image.outcome is each for image in images)),
        "algorithm": ALGORITHM,
        "analysis_digest": "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
        "model_version": ALGORITHM.version,
        "content_datetime": MOMENT,
    }
    return ReportContent(**(fields | overrides))


def with_raw(ds: Dataset, **values: bytes) -> Dataset:
    """Put encoded values into a data set as they are, however wrong."""
    for keyword, value in values.items():
        tag = tag_for_keyword(keyword)
        assert tag is not None
        padded = value + b" " * (len(value) % 2)
        ds[tag] = RawDataElement(BaseTag(tag), dictionary_VR(tag), len(padded), padded, 0, False, True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Otherwise pydicom decodes and encodes the values again while it writes.
        ds.set_original_encoding(False, True, ds._character_set)
    return ds


def stored(ds: Dataset, folder: Path, name: str = "image") -> Path:
    """Write a source image and return its path."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of the broken headers that are wanted here
        return write_part10(ds, folder / f"{name}.dcm")
