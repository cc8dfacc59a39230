import json
import struct
import warnings
from dataclasses import asdict

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_io.archive.query import read_study
from dicom_io.header.header import read_header, read_values
from dicom_io.header.printable import printable
from dicom_io.header.text import CharacterSet, date, time
from dicom_io.report.source import read_source
from tests.builders import build_dx
from tests.reporting import stored, with_raw
from worker.db.columns import truncated_to_columns
from worker.db.tables import Study

HANGUL, HAN, KANJI = "김희중", "王小东", "山田"
CHARACTER_SETS = [
    *((term, "Zoë-7".encode(), "Zoë-7") for term in (b"ISO_IR 192", b"ISO_IR192", b"ISO_IR_192", b"ISO-IR 192")),
    *((term, "Zoë-7".encode(), "Zoë-7") for term in (b"UTF8", b"utf-8", b"UTF_8", b"iso_ir 192", b"ISO IR 192")),
    *((term, "Zoë".encode("latin-1"), "Zoë") for term in (b"ISO_IR 100", b"ISO IR 100", b"iso-ir 100", b"ISO_8859-1")),
    *((term, "Zoë".encode("latin-1"), "Zoë") for term in (b"ISO 2022 IR 100", b"\\ISO 2022 IR 100", b"LATIN1", b"")),
    (b"ISO_IR 144", "Я-1".encode("iso8859-5"), "Я-1"),
    (b"ISO8859-5", "Я-1".encode("iso8859-5"), "Я-1"),
    (b"ISO_IR 203", "7€".encode("iso8859-15"), "7€"),
    *((term, b"A\x1b$B;3ED\x1b(B1", f"A{KANJI}1") for term in (b"\\ISO 2022 IR 87", b"ISO 2022 IR 87", b"\\ISO_IR 87")),
    (b"ISO_IR 13\\ISO 2022 IR 87", b"\xd4\xcf\x1b$B;3ED\x1b(J", f"ﾔﾏ{KANJI}"),
    *((term, b"\x1b$)C" + HANGUL.encode("euc_kr"), HANGUL) for term in (b"\\ISO 2022 IR 149", b"iso 2022 ir 149")),
    (b"\\ISO 2022 IR 58", b"\x1b$)A" + HAN.encode("gb2312"), HAN),
    *((term, HAN.encode("gb18030"), HAN) for term in (b"GB18030", b"gb 18030", b"GBK", b"GB2312")),
    (b"KLINGON", "Zoë".encode(), "Zoë"),
    (b"KLINGON", "Zoë".encode("latin-1"), "Zoë"),
    (b"ISO_IR 192\\ISO 2022 IR 100", "Zoë".encode(), "Zoë"),
]
DATES = [
    ("2024-03-05", "20240305"),
    ("2024.03.05", "20240305"),
    ("2024/03/05", "20240305"),
    ("20240305", "20240305"),
    ("20240305102030.5", "20240305"),
    ("2024-03-05 10:20", "20240305"),
    ("", ""),
    ("20240230", ""),
    ("2024-3-5", ""),
    ("05.03.2024", ""),
    ("20240301-20240305", ""),
    ("yesterday", ""),
    ("\uff12\uff10\uff12\uff14\uff10\uff13\uff10\uff15", ""),
]
HIDDEN = [*"\x00\x07\x1b\x7f\x80\x85\x9b\x9f\u061c\u200b\u200e\u2028\u2029\u202a\u202e\u2066\u2069\ufeff", "\ud800"]


@pytest.mark.parametrize(("term", "raw", "expected"), CHARACTER_SETS)
def test_identifiers_are_the_same_in_tables_and_report(tmp_path, term, raw, expected):
    path = stored(with_raw(build_dx(), SpecificCharacterSet=term, PatientID=raw, AccessionNumber=raw), tmp_path)
    header, report = read_header(path), read_source(path).patient_and_study
    assert (header.patient_id, header.accession_number) == (expected, expected)
    assert (report.PatientID, report.AccessionNumber) == (expected, expected)


def test_a_value_that_does_not_fit_its_character_set_does_not_change_how_the_others_are_read(tmp_path):
    raw = {"SpecificCharacterSet": b"ISO_IR 144", "PatientName": b"\x1b$)C\xff", "PatientID": "Я".encode("iso8859-5")}
    path = stored(with_raw(build_dx(), **raw), tmp_path)
    assert read_header(path).patient_id == read_source(path).patient_and_study.PatientID == "Я"


@pytest.mark.parametrize(
    ("term", "text"), [(b"\\ISO 2022 IR 87", KANJI), (b"\\ISO_IR 149", HANGUL), (b"gb 18030", HAN)]
)
def test_a_character_set_that_holds_the_texts_is_kept(term, text):
    kept = CharacterSet(term).specific_character_set([text], [f"{text}^{text}"])
    assert "".join(kept).upper() in ("ISO 2022 IR 87", "ISO 2022 IR 149", "GB18030")


def test_texts_that_their_character_set_cannot_hold_go_out_as_utf_8():
    for term in (b"ISO_IR 100", b"ISO_IR 203", b"", b"KLINGON"):
        assert CharacterSet(term).specific_character_set(["7€"], []) == ["ISO_IR 192"]
        assert CharacterSet(term).specific_character_set(["7"], []) != ["ISO_IR 192"]


@pytest.mark.parametrize(("written", "expected"), DATES)
def test_a_study_date_is_the_same_in_tables_and_report_or_in_neither(tmp_path, written, expected):
    path = stored(with_raw(build_dx(), StudyDate=written.encode()), tmp_path)
    assert date(written) == expected
    assert read_header(path).study_date == (expected or None)
    assert read_source(path).patient_and_study.StudyDate == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("10:20:30", "102030"),
        ("10:20", "1020"),
        ("102030.123456", "102030.123456"),
        ("102030.1234567", "102030.123456"),
        ("10:20:30,5", "102030.5"),
        ("1020", "1020"),
        ("240000", ""),
        ("10:20.30", ""),
        ("morning", ""),
        ("", ""),
    ],
)
def test_times_are_translated_or_left_empty(written, expected):
    assert time(written) == expected


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_header_in_another_encoding_is_read_alike(tmp_path, syntax):
    path = stored(build_dx(transfer_syntax=syntax, StudyDate="20240305", PatientID="Zoë", NumberOfFrames=12), tmp_path)
    header, source = read_header(path), read_source(path)
    assert (header.patient_id, header.study_date, header.number_of_frames) == ("Zoë", "20240305", 12)
    assert (source.rows, source.columns, source.imager_pixel_spacing) == (24, 32, (0.15, 0.15))


@pytest.mark.parametrize(
    ("vr", "encoded"),
    [
        ("UT", b"0.143\\0.143 "),
        ("UN", b"0.143\\0.143 "),
        ("LO", b"0.143\\0.143 "),
        ("DS", b"0,143\\0,143 "),
        ("DS", b"+1.43E-1\\.143 "),
        ("FD", struct.pack("<2d", 0.143, 0.143)),
    ],
)
def test_a_spacing_is_read_whatever_its_value_representation(tmp_path, vr, encoded):
    ds = build_dx()
    tag = BaseTag(0x00181164)
    ds[tag] = RawDataElement(tag, vr, len(encoded), encoded, 0, False, True)
    assert read_source(stored(ds, tmp_path)).imager_pixel_spacing == pytest.approx((0.143, 0.143))


@pytest.mark.parametrize("encoded", [b"0.1", b"0.1\\", b"0.1\\0", b"0.1\\nan ", b"0.1\\1e999", b"a\\b ", b"-1\\1"])
def test_a_spacing_that_is_none_is_left_out(tmp_path, encoded):
    assert read_source(stored(with_raw(build_dx(), ImagerPixelSpacing=encoded), tmp_path)).imager_pixel_spacing == ()


@pytest.mark.parametrize("hidden", HIDDEN, ids=[f"U+{ord(each):04X}" for each in HIDDEN])
def test_what_cannot_be_seen_becomes_a_space(hidden):
    assert printable(f"A{hidden}B") == "A B"
    assert truncated_to_columns(Study, patient_id=f"A{hidden}B") == {"patient_id": "A B"}


def test_what_can_be_seen_stays_as_it_is():
    text = "Zoë 김희중 𝔛 – ½ שָׁלוֹם"
    assert printable(text) == text


def test_no_control_or_direction_of_a_header_reaches_what_is_shown(tmp_path):
    hostile = "A\u202eB\u200bC\x9bD\u2028E\x85F"
    raw = dict.fromkeys(
        ("PatientID", "AccessionNumber", "StudyDescription", "BodyPartExamined", "ViewPosition", "Modality"),
        hostile.encode(),
    )
    path = stored(with_raw(build_dx(), SpecificCharacterSet=b"ISO_IR 192", **raw), tmp_path)
    header = read_header(path)
    assert (header.patient_id, header.accession_number) == ("A B C D E F", "A B C D E F")
    shown = json.dumps(asdict(header), ensure_ascii=False)
    assert printable(shown) == shown


def test_no_control_character_reaches_a_report(tmp_path):
    raw = dict.fromkeys(("PatientName", "PatientID", "StudyDescription", "ReferringPhysicianName"), b"A\x85B\x9bC\x07D")
    shared = read_source(stored(with_raw(build_dx(), SpecificCharacterSet=b"ISO_IR 100", **raw), tmp_path))
    report = shared.patient_and_study
    assert (report.PatientName, report.StudyDescription) == ("ABCD", "ABCD")
    assert report.PatientID == ""  # a mended identifier might be somebody else's


def test_a_large_free_text_is_cut_and_keeps_no_instance_out(tmp_path):
    path = stored(with_raw(build_dx(), PatientComments=b"x" * 65000, StudyDescription=b"y" * 65000), tmp_path)
    assert len(read_values(path).text("StudyDescription")) == 65000
    assert len(read_source(path).patient_and_study.StudyDescription) == 64


def test_an_archives_answer_is_read_by_the_same_dates_and_times():
    match = Dataset()
    match.StudyInstanceUID = "1.2.3"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of the notations that are wanted here
        match.StudyDate, match.StudyTime = "2024-03-05", "10:20"
    study = read_study(match)
    assert study is not None
    assert (study.study_date, study.study_time) == ("20240305", "102000")
