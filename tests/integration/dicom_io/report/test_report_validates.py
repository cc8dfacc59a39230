"""Reports before other people's eyes: dicom3tools' validator, DCMTK's reader, highdicom's reader."""

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_charset_files, get_testdata_file
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, MultiFrameGrayscaleWordSecondaryCaptureImageStorage

from dicom_io.errors import ReportError
from dicom_io.report.structured_report import as_comprehensive_sr, build_report
from dicom_io.types import Box, Outcome, ReportedImage, ReportReference
from tests import reports
from tests.builders import build_cr, build_dx, build_sc, uid
from tests.reporting import BOXES, content_of, reported, stored, with_raw

pytestmark = pytest.mark.peer

FRAMES = np.zeros((3, 24, 64), np.uint16)
WIDE = np.zeros((64, 64), np.uint16)


def multi_frame():
    return build_sc(pixels=FRAMES, SOPClassUID=MultiFrameGrayscaleWordSecondaryCaptureImageStorage)


SOURCES = {
    "a DX": lambda: build_dx(pixels=WIDE),
    "a DX without ImagerPixelSpacing": lambda: build_dx(pixels=WIDE, ImagerPixelSpacing=None),
    "a DX without PatientOrientation": lambda: build_dx(pixels=WIDE, PatientOrientation=None),
    "a DX with an empty PatientOrientation": lambda: build_dx(pixels=WIDE, PatientOrientation=""),
    "a CR": lambda: build_cr(pixels=WIDE),
    "a SC": lambda: build_sc(pixels=WIDE),
    "a big endian CR": lambda: build_cr(pixels=WIDE, transfer_syntax=ExplicitVRBigEndian),
    "an implicit VR CR": lambda: build_cr(pixels=WIDE, transfer_syntax=ImplicitVRLittleEndian),
    "a DX of the retired SNOMED scheme": lambda: build_dx(pixels=WIDE, BodyPartExamined="KNEE", ImageLaterality="U"),
    "a DX of both sides": lambda: build_dx(pixels=WIDE, BodyPartExamined="PELVIS", ImageLaterality="B"),
}
BROKEN = {
    "over-long identifiers": {"PatientID": b"9" * 80, "AccessionNumber": b"2026112200000000001", "StudyID": b"S" * 30},
    "over-long names": {"PatientName": b"N" * 90 + b"^" + b"M" * 90, "ReferringPhysicianName": b"A^B^C^D^E^F"},
    "values with backslashes": {"PatientID": b"A\\B", "StudyDescription": b"left\\hand", "PatientName": b"A\\B"},
    "wrong dates": {"PatientBirthDate": b"1970.13.45", "StudyDate": b"yesterday", "StudyTime": b"99:99"},
    "old dates": {"PatientBirthDate": b"1970.01.02", "StudyDate": b"2026.11.22", "StudyTime": b"12:34:56"},
    "empty type 2": {"StudyDate": b"", "StudyTime": b"", "PatientName": b"", "PatientID": b"", "AccessionNumber": b""},
    "wrong codes": {
        "PatientSex": b"female",
        "PatientAge": b"35",
        "BodyPartExamined": b"left hand!",
        "Modality": b"x y\\z",
    },
    "control characters": {"PatientName": b"A\x01\x02^B", "PatientID": b"1\x00\x07", "StudyDescription": b"a\r\nb"},
    "Latin-1 without a character set": {"SpecificCharacterSet": b"", "PatientName": "Müller".encode("latin-1")},
    "Latin-1 declared as UTF-8": {"SpecificCharacterSet": b"ISO_IR 192", "PatientName": "Müller".encode("latin-1")},
    "an unknown character set": {"SpecificCharacterSet": b"KLINGON", "PatientName": "Müller".encode()},
    "a misspelt character set": {"SpecificCharacterSet": b"ISO-IR 100", "PatientName": "Müller".encode("latin-1")},
    "Latin-1": {"SpecificCharacterSet": b"ISO_IR 100", "PatientName": "Müller^Jörg".encode("latin-1")},
    "UTF-8": {"SpecificCharacterSet": b"ISO_IR 192", "PatientName": "山田^太郎".encode()},
    "Japanese with code extensions": {
        "SpecificCharacterSet": b"\\ISO 2022 IR 87",
        "PatientName": b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
    },
    "Korean with code extensions": {
        "SpecificCharacterSet": b"\\ISO 2022 IR 149",
        "PatientName": b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
    },
    "numbers that are none": {"SeriesNumber": b"one", "InstanceNumber": b"1.5", "NumberOfFrames": b"many"},
    "orientation and spacing that are none": {"PatientOrientation": b"L\\F\\H", "ImagerPixelSpacing": b"0.1\\0"},
    "dates with hyphens": {"StudyDate": b"2024-03-05", "PatientBirthDate": b"1990/01/02", "StudyTime": b"10:20:30,5"},
    "C1 and directions": {
        "SpecificCharacterSet": b"ISO_IR 192",
        "PatientName": "A\x85\u202eB^\u200bC".encode(),
        "PatientID": "1\u202e2".encode(),
        "StudyDescription": "a\x9b\u2028b".encode(),
    },
    "UTF-8 under another name": {"SpecificCharacterSet": b"utf-8", "PatientID": "ID-äöü".encode(), "PatientName": b"A"},
    "ISO 8859-1 under its own name": {"SpecificCharacterSet": b"ISO_8859-1", "PatientName": "Zoë".encode("latin-1")},
    "Latin-9": {"SpecificCharacterSet": b"ISO_IR 203", "PatientName": "Zoë".encode("iso8859-15")},
    "Chinese with code extensions": {
        "SpecificCharacterSet": b"\\ISO 2022 IR 58",
        "PatientName": b"Wang^XiaoDong=\x1b$)A" + "王^".encode("gb2312") + b"\x1b$)A" + "小东".encode("gb2312"),
    },
    "GBK": {"SpecificCharacterSet": b"gbk", "PatientName": "Wang^XiaoDong=王^小东".encode("gbk")},
    "GB18030": {"SpecificCharacterSet": b"GB 18030", "PatientName": "Wang^XiaoDong=王^小东".encode("gb18030")},
    "Korean without an escape": {
        "SpecificCharacterSet": b"ISO 2022 IR 149",
        "PatientID": b"K-1",
        "PatientName": b"Hong",
    },
    "a spacing with commas": {"ImagerPixelSpacing": b"0,14300000000000001\\0,143"},
    "no SeriesNumber": {"SeriesNumber": b"", "InstanceNumber": b""},
}


def check(report, folder: Path):
    """Let all three readers see a report in both SOP classes; return what DCMTK prints of the first."""
    dumps = []
    for number, each in enumerate((report, as_comprehensive_sr(report.part10))):
        path = folder / f"report{number}.dcm"
        path.write_bytes(each.part10)
        assert reports.validator_errors(path) == []
        dumps.append(reports.dump(path))
        assert reports.read(path).SOPInstanceUID == each.reference.sop_instance_uid
    return dumps[0]


@pytest.mark.parametrize("source", SOURCES)
def test_a_positive_report_is_lawful_on(source, tmp_path):
    path = stored(SOURCES[source](), tmp_path)
    report = build_report(content_of(reported(path, Outcome.PRESENT, boxes=2)))
    assert "INCOMPLETE" not in check(report, tmp_path)
    found = reports.boxes(reports.read(tmp_path / "report0.dcm"))
    wanted = [(box.x1, box.y1, box.x2, box.y2) for box in BOXES[:2]]
    assert np.abs(np.array([box.corners for box in found]) - np.array(wanted)).max() < 0.01


@pytest.mark.parametrize("defect", BROKEN)
def test_a_report_is_lawful_although_its_source_has(defect, tmp_path):
    source = with_raw(build_dx(pixels=WIDE), **BROKEN[defect])
    report = build_report(content_of(reported(stored(source, tmp_path), Outcome.PRESENT, boxes=1)))
    check(report, tmp_path)
    (answer,) = reports.answers(reports.read(tmp_path / "report0.dcm"))
    assert answer.presence == "present"


@pytest.mark.parametrize(
    ("outcome", "boxes", "presence", "probability"),
    [
        (Outcome.PRESENT, 0, "present", 0.934),
        (Outcome.PRESENT, 5, "present", 0.934),
        (Outcome.INCONCLUSIVE, 1, "Undetermined", 0.41),
        (Outcome.ABSENT, 0, "absent", 0.031),
        (Outcome.FAILED, 0, None, None),
        (Outcome.OUT_OF_SCOPE, 0, None, None),
    ],
)
def test_every_outcome_is_lawful_and_read_back(outcome, boxes, presence, probability, tmp_path):
    path = stored(build_dx(pixels=WIDE), tmp_path)
    check(build_report(content_of(reported(path, outcome, boxes))), tmp_path)
    report = reports.read(tmp_path / "report0.dcm")
    (answer,) = reports.answers(report)
    assert (answer.presence, answer.probability) == (presence, pytest.approx(probability))
    assert len(reports.boxes(report)) == boxes


def test_a_study_of_two_series_with_a_failure_is_lawful(tmp_path):
    a = stored(build_dx(pixels=WIDE), tmp_path, "a")
    b = stored(build_cr(series="other", pixels=WIDE), tmp_path, "b")
    content = content_of(reported(a, Outcome.PRESENT, boxes=2), reported(b, Outcome.FAILED))
    check(build_report(content), tmp_path)
    answers = reports.answers(reports.read(tmp_path / "report0.dcm"))
    assert [answer.presence for answer in answers] == ["present", None]
    assert answers[1].sop_instance_uid == uid("study", "other", "instance")


def test_two_frames_of_one_image_are_lawful_and_told_apart(tmp_path):
    path = stored(multi_frame(), tmp_path)
    images = (reported(path, Outcome.PRESENT, boxes=1, frame=1), reported(path, Outcome.PRESENT, boxes=1, frame=3))
    check(build_report(content_of(*images)), tmp_path)
    assert [box.frame_number for box in reports.boxes(reports.read(tmp_path / "report0.dcm"))] == [1, 3]


def test_a_whole_multi_frame_image_that_failed_is_lawful(tmp_path):
    check(build_report(content_of(reported(stored(multi_frame(), tmp_path), Outcome.FAILED, frame=0))), tmp_path)


def test_a_revision_is_lawful(tmp_path):
    path = stored(build_dx(pixels=WIDE), tmp_path)
    first = build_report(content_of(reported(path, Outcome.ABSENT)))
    older = ReportReference("1.2.840.10008.5.1.4.1.1.88.33", "1.2.3.4", "1.2.3.5", first.reference.study_instance_uid)
    for predecessor in (first.reference, older):
        check(build_report(content_of(reported(path, Outcome.ABSENT), predecessor=predecessor)), tmp_path)


def test_words_of_a_failure_reach_dcmtk_in_full(tmp_path):
    path = stored(build_dx(pixels=WIDE), tmp_path)
    (tmp_path / "report.dcm").write_bytes(build_report(content_of(reported(path, Outcome.FAILED))).part10)
    text = reports.run("dsrdump", "+Pl", tmp_path / "report.dcm").stdout
    assert "AI result: not verified; decision support, not a diagnosis." in text
    assert "This is not a negative result." in text
    assert "Absent" not in text


REAL = [
    "RG1_UNCR.dcm", "RG1_J2KI.dcm", "RG3_UNCR.dcm", "RG3_J2KI.dcm", "JPEG2000.dcm", "CT_small.dcm", "emri_small.dcm",
    "SC_rgb.dcm", "SC_ybr_full_422_uncompressed.dcm", "MR_small_bigendian.dcm", "ExplVR_BigEnd.dcm",
]  # fmt: skip
WITHOUT_CLASS = {"chrSQEncoding.dcm", "chrSQEncoding1.dcm"}
CHARACTER_SETS = sorted({Path(name).name for name in get_charset_files("*.dcm")} - WITHOUT_CLASS)


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of what real headers hold
@pytest.mark.parametrize("name", REAL)
def test_a_report_on_a_real_file_is_lawful(name, tmp_path):
    path = Path(get_testdata_file(name))
    ds = pydicom.dcmread(path, stop_before_pixels=True)
    box = Box(1.25, 2.5, float(ds.Columns) - 1, float(ds.Rows), 0.7)
    check(build_report(content_of(ReportedImage(path, 1, Outcome.PRESENT, 0.8, (box,)))), tmp_path)
    (read,) = reports.boxes(reports.read(tmp_path / "report0.dcm"))
    assert read.corners == pytest.approx((box.x1, box.y1, box.x2, box.y2), abs=0.01)


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of what real headers hold
@pytest.mark.parametrize("name", CHARACTER_SETS)
def test_a_report_on_a_real_file_keeps_the_name_in_its_character_set(name, tmp_path):
    (path,) = map(Path, get_charset_files(name))
    source = pydicom.dcmread(path)
    report = build_report(content_of(ReportedImage(path, 1, Outcome.ABSENT, 0.1)))
    check(report, tmp_path)
    ds = pydicom.dcmread(io.BytesIO(report.part10))
    assert ds.get("SpecificCharacterSet") == source.get("SpecificCharacterSet")
    other = pydicom.dcmread(io.BytesIO(as_comprehensive_sr(report.part10).part10))
    assert other.get_item("PatientName").value == ds.get_item("PatientName").value
    assert str(ds.PatientName) == str(source.PatientName).rstrip("=")


@pytest.mark.parametrize("name", ["rtdose.dcm", "reportsi.dcm", *sorted(WITHOUT_CLASS)])
def test_what_is_no_image_gets_no_report(name):
    path = (get_charset_files(name) or [get_testdata_file(name)])[0]
    with pytest.raises(ReportError):
        build_report(content_of(ReportedImage(Path(path), 1, Outcome.ABSENT, 0.1)))


def test_bytes_on_disk_are_what_was_built(tmp_path):
    report = build_report(content_of(reported(stored(build_dx(), tmp_path), Outcome.ABSENT)))
    assert pydicom.dcmread(io.BytesIO(report.part10)).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
