"""Whatever one element of a header holds, it ends that image at most, with an error of our own that says why."""

import functools
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from dicom_io.errors import DicomError, ReportError
from dicom_io.header.header import read_header
from dicom_io.header.scope import ScopeRule
from dicom_io.pixels.frames import read_frames
from dicom_io.report.structured_report import ReportContent, build_report
from dicom_io.types import Algorithm, Box, Outcome, ReportedImage
from models.types import Decision, ImageAnalysis, ScoredBox
from tests.builders import uid, write_part10
from tests.hostile_headers import Variant, radiograph, variants
from worker.files.analyze import AnalysisContext, analyze_file
from worker.files.candidates import select
from worker.files.output import Output
from worker.study.companions import CompanionRule, Pictures, build_companions

ALGORITHM = Algorithm("first", "1", "nobody")
FAILED_OR_ANSWERED = {Outcome.FAILED, Outcome.OUT_OF_SCOPE, Outcome.PRESENT}


class Model:
    version = "1"

    def analyze(self, pixels: np.ndarray, minimum_score: float | None = None) -> ImageAnalysis:
        return ImageAnalysis(0.9, (ScoredBox(1, 2, 11, 12, 0.9),), Decision.PRESENT, 0.1)


@functools.cache
def all_variants(transfer_syntax: str = ExplicitVRLittleEndian) -> tuple[Variant, ...]:
    ds = radiograph()
    if transfer_syntax == RLELossless:
        ds.compress(RLELossless, generate_instance_uid=False)
    ds.file_meta.TransferSyntaxUID = transfer_syntax
    return tuple(variants(ds))


def written(folder: Path, each: Variant) -> Path:
    path = folder / "image.dcm"
    path.write_bytes(each.content)
    return path


def content_of(path: Path) -> ReportContent:
    image = ReportedImage(path, 1, Outcome.PRESENT, 0.9, (Box(1, 2, 11, 12, 0.9),))
    return ReportContent(
        (image,), Outcome.PRESENT, ALGORITHM, "digest", "1", content_datetime=datetime(2026, 1, 1, tzinfo=UTC)
    )


@pytest.mark.parametrize("transfer_syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless])
def test_nothing_but_our_own_errors_comes_from_a_header_with_one_odd_element(tmp_path, transfer_syntax):
    read = refused = 0
    for each in all_variants(transfer_syntax)[::5]:
        path = written(tmp_path, each)
        for reading in (read_header, lambda path: next(read_frames(path))):
            try:
                reading(path)
                read += 1
            except DicomError as error:
                refused += bool(str(error))
    assert read > 300
    assert refused > 20


def test_a_batch_with_odd_headers_has_an_answer_for_each_file_and_a_report_or_the_reason(tmp_path):
    output = Output(tmp_path / "out", ALGORITHM, 0.5)
    answered = 0
    for number, each in enumerate(all_variants()[::67]):
        (candidate,) = select([written(tmp_path, each)]).candidates
        answer = analyze_file(candidate, AnalysisContext(Model, ScopeRule(accept_unknown_body_part=True)))
        assert answer.outcome in FAILED_OR_ANSWERED, each.words
        assert answer.outcome is Outcome.PRESENT or answer.reason, each.words
        if answer.pixels is None:
            continue
        answered += 1
        note = output.write(answer, Path(str(number)))
        assert note or (tmp_path / "out" / f"{number}.sr.dcm").exists(), each.words
    assert answered > 30


def test_every_companion_of_an_odd_header_is_there_or_has_its_reason(tmp_path):
    built = 0
    for each in all_variants()[33::97]:
        content = content_of(written(tmp_path, each))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                report = build_report(content)
        except ReportError:
            continue
        for companion in build_companions(content, report.reference, Pictures(CompanionRule("always", True))):
            assert companion.report is not None or companion.reason, each.words
            built += companion.report is not None
    assert built > 30


def test_a_study_with_an_image_of_an_odd_header_has_its_report(tmp_path):
    good = radiograph()
    good.SOPInstanceUID = good.file_meta.MediaStorageSOPInstanceUID = uid("good")
    first = content_of(write_part10(good, tmp_path / "good.dcm"))
    of_first = read_header(first.images[0].path)
    built = 0
    for each in all_variants()[7::97]:
        path = written(tmp_path, each)
        try:
            header = read_header(path)
        except DicomError:
            continue  # the listener refuses it
        if (header.patient_id, header.study_instance_uid) != (of_first.patient_id, of_first.study_instance_uid):
            continue  # another patient's or another study's
        odd = ReportedImage(path, 1, Outcome.FAILED, reason="the data set cannot be parsed")
        report = build_report(replace(first, images=(*first.images, odd)))
        built += report.reference.study_instance_uid == of_first.study_instance_uid
    assert built > 25


def test_a_report_that_fails_for_what_nobody_foresaw_says_so_without_quoting(tmp_path):
    path = write_part10(radiograph(), tmp_path / "image.dcm")
    image = ReportedImage(path, 1, Outcome.PRESENT, 0.9, (None,))  # type: ignore[arg-type]
    content = ReportContent(
        (image,), Outcome.PRESENT, ALGORITHM, "digest", "1", content_datetime=datetime(2026, 1, 1, tzinfo=UTC)
    )

    with pytest.raises(ReportError, match=r"unexpected error \(\w+\)"):
        build_report(content)
