"""Broken and foreign headers: what of them reaches a report, and that none of it breaks the standard."""

import io

import pydicom
import pytest
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_io.errors import ReportError
from dicom_io.report.codes import LATERALITY
from dicom_io.report.source import read_source
from tests.builders import build_cr, build_dx, coded
from tests.reporting import stored, with_raw


def taken_over(ds, folder):
    """Return what a report shares with its source, written and read again."""
    shared = read_source(stored(ds, folder)).patient_and_study
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, shared, implicit_vr=False, little_endian=True)
    return pydicom.dcmread(io.BytesIO(buffer.getvalue()), force=True)


@pytest.mark.parametrize(
    ("keyword", "value", "expected"),
    [
        ("PatientID", b"9" * 65, ""),
        ("PatientID", b"A\\B", ""),
        ("PatientID", b"A\x07B", ""),
        ("PatientID", b" A B ", "A B"),
        ("AccessionNumber", b"2026112200000000001", ""),
        ("StudyID", b"S" * 17, ""),
        ("StudyDescription", b"d" * 80, "d" * 64),
        ("StudyDescription", b"left\\hand", "left hand"),
        ("PatientBirthDate", b"1970.01.02", "19700102"),
        ("PatientBirthDate", b"19701332", ""),
        ("PatientBirthDate", b"unknown", ""),
        ("StudyDate", b"", ""),
        ("StudyDate", b"20260230", ""),
        ("StudyTime", b"12:34:56", "123456"),
        ("StudyTime", b"250000", ""),
        ("StudyTime", b"101112.123456", "101112.123456"),
        ("PatientSex", b"m", "M"),
        ("PatientSex", b"male", ""),
        ("PatientName", b"A^B^C^D^E^F^G", "A^B^C^D^E"),
        ("PatientName", b"N" * 70, "N" * 64),
        ("PatientName", b"A\\B", "A B"),
        ("PatientName", b"A=B=C=D", "A=B=C"),
    ],
)
def test_values_that_break_their_vr_are_mended_or_left_empty(tmp_path, keyword, value, expected):
    assert taken_over(with_raw(build_dx(), **{keyword: value}), tmp_path)[keyword].value == expected


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientAge", b"35"),
        ("PatientSize", b"1,80"),
        ("PatientWeight", b"heavy"),
        ("TimezoneOffsetFromUTC", b"UTC"),
        ("IssuerOfPatientID", b"I" * 65),
    ],
)
def test_optional_values_that_break_their_vr_are_left_out(tmp_path, keyword, value):
    assert keyword not in taken_over(with_raw(build_dx(), **{keyword: value}), tmp_path)


def test_optional_values_that_hold_are_taken_over(tmp_path):
    values = {"PatientAge": "035Y", "PatientSize": "1.8", "IssuerOfPatientID": "TEST", "PatientComments": "one\r\ntwo"}
    ds = taken_over(build_dx(**values), tmp_path)
    assert {keyword: str(ds[keyword].value) for keyword in values} == values


@pytest.mark.parametrize(
    "keyword",
    [
        "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
        "AccessionNumber", "ReferringPhysicianName",
    ],
)  # fmt: skip
def test_type_2_attributes_are_there_though_the_source_lacks_them(tmp_path, keyword):
    ds = taken_over(build_dx(**{keyword: None}), tmp_path)
    assert keyword in ds
    assert not ds[keyword].value


def test_a_deidentified_source_gives_a_deidentified_report(tmp_path):
    ds = taken_over(build_dx(PatientIdentityRemoved="YES", DeidentificationMethod="by hand"), tmp_path)
    assert (ds.PatientIdentityRemoved, ds.DeidentificationMethod) == ("YES", "by hand")


def test_missing_numbers_are_no_obstacle(tmp_path):
    source = read_source(stored(build_cr(SeriesNumber=None, InstanceNumber=None, BodyPartExamined=None), tmp_path))
    assert (source.series_number, source.instance_number, source.body_part) == ("", "", "")


JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"
NAMES = [
    ("ISO_IR 100", "Müller^Jörg", "latin-1"),
    ("ISO_IR 192", "Łukasz^Ægir^山", "utf-8"),
    ("ISO_IR 144", "Люкceмбypг", "iso8859-5"),
    ("GB18030", "Wang^XiaoDong=王^小东", "gb18030"),
    ("\\ISO 2022 IR 87", JAPANESE, "iso2022_jp"),
    # 0x3D, an equals sign in ASCII, is the first byte of this name in JIS X 0208.
    ("\\ISO 2022 IR 87", "Haruyama^Haruko=春山^春子", "iso2022_jp"),
]


@pytest.mark.parametrize(("character_set", "name", "codec"), NAMES)
def test_foreign_names_keep_their_character_set_and_their_bytes(tmp_path, character_set, name, codec):
    if codec == "iso2022_jp":  # every component returns to ASCII before its delimiter (PS3.5 6.1.2.5.3)
        encoded = "=".join("^".join(p.encode(codec).decode("latin-1") for p in g.split("^")) for g in name.split("="))
        raw = encoded.encode("latin-1")
    else:
        raw = name.encode(codec)
    source = with_raw(build_dx(), SpecificCharacterSet=character_set.encode(), PatientName=raw)
    ds = taken_over(source, tmp_path)
    terms = ds.SpecificCharacterSet
    assert (terms if isinstance(terms, str) else "\\".join(terms)) == character_set
    assert ds.get_item("PatientName").value.rstrip(b" ") == raw


def test_plain_names_without_a_character_set_stay_without_one(tmp_path):
    ds = taken_over(build_dx(SpecificCharacterSet=None), tmp_path)
    assert "SpecificCharacterSet" not in ds
    assert ds.PatientName == "TEST^PHANTOM"


@pytest.mark.parametrize(
    ("character_set", "raw", "name"),
    [
        (b"", "Müller".encode("latin-1"), "Müller"),
        (b"", "Müller".encode(), "Müller"),
        (b"ISO_IR 192", "Müller".encode("latin-1"), "Müller"),
        (b"ISO_IR 999", "Müller".encode(), "Müller"),
        (b"nonsense\\ISO_IR 192", "Müller".encode(), "Müller"),
    ],
)
def test_a_wrong_character_set_is_replaced_by_utf_8(tmp_path, character_set, raw, name):
    ds = taken_over(with_raw(build_dx(), SpecificCharacterSet=character_set, PatientName=raw), tmp_path)
    assert ds.SpecificCharacterSet == "ISO_IR 192"
    assert ds.PatientName == name


@pytest.mark.parametrize("term", [b"ISO-IR 100", b"ISO_IR_100", b"iso_ir 100"])
def test_misspelt_character_sets_are_mended(tmp_path, term):
    source = with_raw(build_dx(), SpecificCharacterSet=term, PatientName="Müller".encode("latin-1"))
    ds = taken_over(source, tmp_path)
    assert (ds.SpecificCharacterSet, str(ds.PatientName)) == ("ISO_IR 100", "Müller")


@pytest.mark.parametrize("transfer_syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_rows_columns_and_names_are_read_in_every_encoding(tmp_path, transfer_syntax):
    ds = build_dx(transfer_syntax=transfer_syntax)
    path = tmp_path / "image.dcm"
    ds.save_as(path, enforce_file_format=True)
    source = read_source(path)
    assert (source.rows, source.columns) == (24, 32)
    assert source.patient_and_study.PatientName == "TEST^PHANTOM"


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
@pytest.mark.parametrize("value", [b"", b"1.2.3; drop", b"1." + b"2" * 70])
def test_a_source_without_a_usable_uid_is_refused(tmp_path, keyword, value):
    ds = pydicom.dcmread(stored(build_dx(), tmp_path))
    path = stored(with_raw(ds, **{keyword: value}), tmp_path)
    with pytest.raises(ReportError, match=keyword):
        read_source(path)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ImageLaterality": "L"}, "L"),
        ({"ImageLaterality": "U", "Laterality": "R"}, ""),
        ({"ImageLaterality": None, "Laterality": "R"}, "R"),
        ({"ImageLaterality": "B"}, "B"),
    ],
)
def test_laterality_of_the_image_comes_before_that_of_the_series(tmp_path, changes, expected):
    assert read_source(stored(build_dx(**changes), tmp_path)).laterality == expected


def test_the_finding_site_is_the_part_that_the_tables_show(tmp_path):
    region = [coded("74670003", "SCT", "Wrist joint")]
    both = read_source(stored(build_dx(AnatomicRegionSequence=region, BodyPartExamined="HAND"), tmp_path))
    assert (both.body_part, both.site) == ("HAND", codes.SCT.Hand)
    code_alone = read_source(stored(build_dx(AnatomicRegionSequence=region, BodyPartExamined=None), tmp_path))
    assert (code_alone.body_part, code_alone.site) == ("WRIST", codes.SCT.WristJoint)


def test_a_region_in_the_retired_snomed_scheme_is_translated(tmp_path):
    region = [coded("T-D8700", "SRT", "Hand, right")]
    source = read_source(stored(build_dx(AnatomicRegionSequence=region, BodyPartExamined="HAND"), tmp_path))
    assert (source.site.value, source.site.scheme_designator) == ("85562004", "SCT")
    assert source.site.meaning == "Hand, right"


@pytest.mark.parametrize("region", [[], [coded("", "SCT", "Hand")], [coded("X1", "99LOCAL", "Hand")]])
def test_a_useless_region_gives_way_to_the_body_part(tmp_path, region):
    source = read_source(stored(build_dx(AnatomicRegionSequence=region, BodyPartExamined="KNEE"), tmp_path))
    assert source.site == codes.SCT.Knee


def test_an_unknown_body_part_gives_no_site(tmp_path):
    assert read_source(stored(build_cr(BodyPartExamined="SOMETHING"), tmp_path)).site is None


def test_every_laterality_has_a_code():
    assert set(LATERALITY) == {"L", "R", "B"}
