import dataclasses
import io
import struct

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_io.header import anatomy
from dicom_io.header.anatomy import body_part, other_region, part_term, region_term, site_code, word_term
from dicom_io.header.header import read_data_set_header, read_header
from dicom_io.header.scope import LIMBS_HIPS_SHOULDERS, ScopeRule, out_of_scope_reason
from dicom_io.types import Concept, InstanceHeader
from tests.builders import build_dx, coded, part10_bytes

UNKNOWN_ALLOWED = ScopeRule(accept_unknown_body_part=True)
SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]
HEADER = InstanceHeader(
    sop_instance_uid="1.2.3",
    sop_class_uid=ComputedRadiographyImageStorage,
    series_instance_uid="1.2",
    study_instance_uid="1",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    modality="CR",
)
HAND = Concept("85562004", "SCT", "Hand")
CHEST = Concept("51185008", "SCT", "Chest")
WRIST = Concept("8205005", "SCT", "Wrist")


def header_of(**attributes) -> InstanceHeader:
    return read_header(part10_bytes(build_dx(**attributes)))


def named(part, *regions, **others) -> InstanceHeader:
    """Return a header as `read_header` makes it for a word and codes of the part of the body."""
    resolved = body_part(part, regions)
    return dataclasses.replace(HEADER, body_part_examined=resolved, anatomic_regions=regions, **others)


def reason_of(*, part=None, regions=(), descriptions=(), rule=UNKNOWN_ALLOWED) -> str | None:
    return out_of_scope_reason(named(part, *regions, descriptions=tuple(descriptions)), rule)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_anatomic_region_is_read_in_every_encoding(syntax):
    header = header_of(transfer_syntax=syntax, BodyPartExamined=None)
    assert header.anatomic_regions == (HAND,)
    assert header.body_part_examined == "HAND"
    assert out_of_scope_reason(header) is None


@pytest.mark.parametrize("syntax", SYNTAXES[:3])
@pytest.mark.parametrize("undefined", [(True, False), (False, True), (True, True)])
def test_the_lengths_of_sequence_and_item_may_be_undefined(syntax, undefined):
    ds = build_dx(transfer_syntax=syntax, BodyPartExamined=None)
    ds["AnatomicRegionSequence"].is_undefined_length, ds.AnatomicRegionSequence[0].is_undefined_length_sequence_item = (
        undefined
    )
    assert read_header(part10_bytes(ds)).anatomic_regions == (HAND,)


@pytest.mark.parametrize(
    "code",
    [
        ("51185008", "SCT"),
        ("816094009", "SCT"),
        ("T-D3000", "SRT"),
        ("T-D3000", "SNM3"),
        ("T-D3000", "99SDM"),
        ("51185008", "sct"),
        ("51185008", "2.16.840.1.113883.6.96"),
        ("http://snomed.info/id/51185008", ""),
        ("urn:oid:2.16.840.1.113883.6.96:51185008", ""),
    ],
)
def test_a_chest_is_out_of_scope_however_it_is_coded_and_whatever_unknown_parts_may(code):
    assert region_term(Concept(*code, "")) == "CHEST"
    assert reason_of(regions=[Concept(*code, "")]) == "body part CHEST is not on the list of analysed ones"


@pytest.mark.parametrize("keyword", ["LongCodeValue", "URNCodeValue"])
def test_a_code_is_read_from_the_attribute_for_long_values_and_for_addresses(keyword):
    region = coded("85562004", "SCT", "Hand")
    del region.CodeValue
    setattr(region, keyword, "http://snomed.info/sct/85562004" if keyword == "URNCodeValue" else "85562004")
    assert header_of(BodyPartExamined="", AnatomicRegionSequence=[region]).body_part_examined == "HAND"


def test_an_analysed_part_is_known_by_its_code_with_and_without_a_side():
    assert [region_term(Concept(value, "SCT", "")) for value in ("78791008", "9736006", "6685009", "30021000")] == [
        "HAND",
        "WRIST",
        "ANKLE",
        "LOWERLEG",
    ]
    assert region_term(Concept("T-15460", "SRT", "")) == "WRIST"


def test_every_listed_part_has_a_code_and_every_code_one_term():
    assert all(word_term(part) is not None for part in LIMBS_HIPS_SHOULDERS)
    values = [code.value for term in anatomy._PARTS for code in anatomy._concepts(term)]
    values += [value for further in anatomy._FURTHER_CODES.values() for value in further.split()]
    assert len(values) == len(set(values))


def test_a_code_that_is_not_known_is_not_an_unknown_body_part():
    code = Concept("HAND", "99ACME", "Hand")
    assert reason_of(regions=[code]) == "the anatomic region is a code that is not known here, of 99ACME"
    assert reason_of(regions=[Concept("", "", "")]) == "the anatomic region is a code that is not known here"
    assert reason_of(part="HAND", regions=[code]) is None


def test_a_known_organ_or_vessel_is_out_of_scope_also_beside_a_hand():
    artery = Concept(codes.SCT.CoronaryArtery.value, "SCT", "")
    assert other_region(artery) == "Coronary artery"
    assert reason_of(regions=[artery]) == "anatomic region Coronary artery is not on the list of analysed ones"
    assert reason_of(part="HAND", regions=[artery]) is not None


@pytest.mark.parametrize(
    ("part", "region", "words"),
    [
        ("HAND", CHEST, "body part HAND and anatomic region CHEST"),
        ("CHEST", HAND, "body part CHEST and anatomic region HAND"),
        ("HAND", Concept("56459004", "SCT", "Foot"), "body part HAND and anatomic region FOOT"),
        ("HAND", Concept("TX", "99ACME", "Thorax p.a."), "body part HAND and anatomic region CHEST"),
    ],
)
def test_a_body_part_and_a_region_that_contradict_each_other_are_out_of_scope(part, region, words):
    assert reason_of(part=part, regions=[region]) == f"{words} contradict each other"


@pytest.mark.parametrize(
    ("part", "code"),
    [("HAND", "8205005"), ("ARM", "40983000"), ("EXTREMITY", "85562004"), ("HIP", "816092008"), ("LEG", "12611008")],
)
def test_two_names_for_the_same_limb_do_not_contradict(part, code):
    assert reason_of(part=part, regions=[Concept(code, "SCT", "")]) is None


@pytest.mark.parametrize(
    ("part", "region"),
    [("MANO", HAND), ("HAND AP", HAND), ("HANDGELENK", WRIST), ("PELVIS", Concept("22356005", "SCT", "Ilium"))],
)
def test_a_code_says_what_a_word_of_a_device_does_not(part, region):
    assert reason_of(part=part, regions=[region]) is None


@pytest.mark.parametrize(
    ("part", "region"), [("THORAX", HAND), ("BRUSTKORB", HAND), ("MANO", CHEST), ("HAND AP", CHEST)]
)
def test_a_word_of_a_device_and_a_code_may_contradict_each_other_too(part, region):
    assert "contradict" in str(reason_of(part=part, regions=[region]))


def test_a_word_that_is_no_term_stays_out_beside_a_code_that_is_not_known():
    assert reason_of(part="MANO", regions=[Concept("X", "99ACME", "Mano")]) is not None
    assert reason_of(part="MANO") is not None


def test_a_site_that_lists_its_own_words_gets_them_beside_codes():
    rule = ScopeRule(body_parts=frozenset({"HANDGELENK", "THORAX"}))
    assert reason_of(part="HANDGELENK", regions=[WRIST], rule=rule) is None
    assert reason_of(part="THORAX", regions=[CHEST], rule=rule) is None
    assert reason_of(part="HANDGELENK", regions=[CHEST], rule=rule) is not None


def test_of_several_regions_none_may_contradict():
    assert reason_of(regions=[HAND, CHEST]) == "body part HAND and anatomic region CHEST contradict each other"
    foot = Concept("56459004", "SCT", "Foot")
    assert reason_of(regions=[HAND, foot]) == "body part HAND and anatomic region FOOT contradict each other"


def test_an_empty_region_sequence_says_nothing():
    header = header_of(BodyPartExamined=None, AnatomicRegionSequence=[])
    assert header.anatomic_regions == ()
    assert out_of_scope_reason(header) == "the body part is not given, and unknown ones are not analysed"
    assert out_of_scope_reason(header, UNKNOWN_ALLOWED) is None


def test_a_region_that_cannot_be_read_is_not_an_unknown_body_part():
    ds = build_dx(BodyPartExamined=None)
    data = part10_bytes(ds)
    place = data.index(b"\x08\x00\x18\x22SQ") + 12
    assert data[place : place + 4] == b"\xfe\xff\x00\xe0"
    damaged = data[:place] + b"\xfe\xff\x01\xe0" + data[place + 4 :]
    assert read_header(damaged).anatomic_regions == (Concept("", "", ""),)
    assert out_of_scope_reason(read_header(damaged), UNKNOWN_ALLOWED) is not None


def test_a_site_that_lists_a_part_by_another_word_gets_it_by_its_code():
    rule = ScopeRule(body_parts=frozenset({"LEG", "CHEST"}))
    assert reason_of(regions=[Concept("30021000", "SCT", "Lower leg")], rule=rule) is None
    assert reason_of(regions=[CHEST], rule=rule) is None
    assert reason_of(regions=[HAND], rule=rule) is not None


@pytest.mark.parametrize("keyword", ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_regions_of_frames_are_read(keyword, syntax):
    macro, group = Dataset(), Dataset()
    macro.AnatomicRegionSequence = Sequence([coded("51185008", "SCT", "Chest")])
    macro.FrameLaterality = "U"
    group.FrameAnatomySequence = Sequence([macro])
    ds = build_dx(BodyPartExamined=None, AnatomicRegionSequence=None, transfer_syntax=syntax)
    setattr(ds, keyword, Sequence([group]))
    assert read_header(part10_bytes(ds)).anatomic_regions == (CHEST,)


def test_broken_private_elements_behind_the_image_module_do_no_harm():
    elements = [
        struct.pack("<HH2sH", 0x0008, 0x0016, b"UI", 26) + b"1.2.840.10008.5.1.4.1.1.1\0",
        struct.pack("<HH2sH", 0x0008, 0x0018, b"UI", 8) + b"1.2.3.4\0",
        struct.pack("<HH2sH", 0x0020, 0x000D, b"UI", 6) + b"1.2.3\0",
        struct.pack("<HH2sH", 0x0020, 0x000E, b"UI", 8) + b"1.2.3.5\0",
        struct.pack("<HH2sH", 0x0029, 0x1010, b"??", 8) + b"whatever",
    ]
    header = read_data_set_header(io.BytesIO(b"".join(elements)), ExplicitVRLittleEndian)
    assert header.study_instance_uid == "1.2.3"


def test_a_header_that_repeats_its_words_without_end_is_read_within_bounds():
    identity = part10_bytes(build_dx(BodyPartExamined=None, AnatomicRegionSequence=None, PixelData=None))
    place = identity.index(b"\x10\x00\x10\x00PN")
    text = struct.pack("<HH2sH", 0x0008, 0x1030, b"LO", 60000) + b"x" * 60000
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 16) + struct.pack("<HH2sH", 0x0008, 0x0100, b"SH", 8) + b"85562004"
    regions = struct.pack("<HH2sHI", 0x0008, 0x2218, b"SQ", 0, 500 * len(item)) + 500 * item
    header = read_header(identity[:place] + 500 * text + 20 * regions + identity[place:])
    assert len(header.descriptions) == 64
    assert all(len(words) <= 1024 for _, words in header.descriptions)
    assert len(header.anatomic_regions) == 1


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"SeriesDescription": "Thorax p.a."}, "the Series Description names CHEST"),
        ({"StudyDescription": "RX ABDOMEN DE PIE"}, "the Study Description names ABDOMEN"),
        ({"ProtocolName": "Schädel seitl."}, "the Protocol Name names SKULL"),
        ({"AcquisitionDeviceProcessingDescription": "CHEST,PA"}, "the Acquisition Device Processing Description names"),
        ({"RequestedProcedureDescription": "XR RIBS LEFT"}, "the Requested Procedure Description names RIB"),
        ({"PerformedProcedureStepDescription": "LWS 2 Ebenen"}, "the Performed Procedure Step Description names SPINE"),
        ({"ProcedureCodeSequence": [coded("X", "99RIS", "Chest 2 views")]}, "the Procedure Code Sequence names CHEST"),
    ],
)
@pytest.mark.parametrize("syntax", SYNTAXES[:2])
def test_a_description_that_names_no_limb_keeps_an_image_of_an_unknown_part_out(attributes, reason, syntax):
    header = header_of(BodyPartExamined=None, AnatomicRegionSequence=[], transfer_syntax=syntax, **attributes)
    assert reason in str(out_of_scope_reason(header, UNKNOWN_ALLOWED))


def test_the_description_of_a_request_is_read_too():
    item = Dataset()
    item.ScheduledProcedureStepDescription = "Torace in due proiezioni"
    header = header_of(BodyPartExamined=None, AnatomicRegionSequence=[], RequestAttributesSequence=[item])
    reason = out_of_scope_reason(header, UNKNOWN_ALLOWED)
    assert reason == "the body part is not given, and the Scheduled Procedure Step Description names CHEST"


def test_no_description_takes_an_image_in_or_overrules_a_part_that_is_named():
    hand = (("Series Description", "Hand p.a."),)
    chest = (("Study Description", "Thorax und Hand"),)
    assert reason_of(descriptions=hand, rule=ScopeRule()) is not None
    assert reason_of(descriptions=hand) is None
    assert reason_of(part="HAND", descriptions=chest) is None
    assert reason_of(regions=[HAND], descriptions=chest) is None
    assert reason_of(part="CHEST", descriptions=hand) is not None


def test_the_finding_site_is_the_part_that_is_shown_for_the_study():
    both = named("HAND", WRIST)
    assert (both.body_part_examined, site_code(both)) == ("HAND", codes.SCT.Hand)
    code_alone = named(None, Concept("T-15460", "SRT", ""))
    assert (code_alone.body_part_examined, site_code(code_alone)) == ("WRIST", codes.SCT.WristJoint)


@pytest.mark.parametrize("written", [None, "", "UNKNOWN", "LEFT", " na "])
def test_a_body_part_that_says_nothing_gives_way_to_the_code(written):
    assert part_term(written) == ""
    assert body_part(written, [HAND]) == "HAND"
    assert reason_of(part=written, regions=[HAND], rule=ScopeRule()) is None
