from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_io.errors import HeaderError
from dicom_io.report.outline import report_outline
from dicom_io.report.structured_report import ReportContent, build_report
from dicom_io.types import Algorithm, Box, Outcome, ReportedImage
from tests.builders import build_dx, ramp, uid, write_part10


def test_a_report_reads_as_an_indented_tree(tmp_path: Path) -> None:
    source = write_part10(build_dx(pixels=ramp(40, 60)), tmp_path / "image.dcm")
    image = ReportedImage(source, 1, Outcome.PRESENT, 0.9, (Box(1, 2, 11, 12, 0.8),))
    algorithm = Algorithm("fake", "1", "bonewatch")
    content = ReportContent((image,), Outcome.PRESENT, algorithm, "digest", "1", datetime(2026, 3, 2, tzinfo=UTC))
    (tmp_path / "report.dcm").write_bytes(build_report(content).part10)
    lines = report_outline(tmp_path / "report.dcm")
    assert lines[0] == "Imaging Measurement Report"
    assert any(line.strip() == "Probability: 0.9" for line in lines)
    assert any("POLYLINE (1.0, 2.0) (11.0, 2.0) (11.0, 12.0) (1.0, 12.0) (1.0, 2.0)" in line for line in lines)
    assert any(line.strip() == f"Source of Measurement: image {uid('study', 'series', 'instance')}" for line in lines)


def test_an_image_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(HeaderError, match=r"image\.dcm"):
        report_outline(write_part10(build_dx(), tmp_path / "image.dcm"))
