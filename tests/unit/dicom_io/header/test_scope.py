import dataclasses

import pytest
from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    GrayscaleSoftcopyPresentationStateStorage,
    SecondaryCaptureImageStorage,
)

from dicom_io.header.scope import ScopeRule, out_of_scope_reason
from dicom_io.types import InstanceHeader

CR = InstanceHeader(
    sop_instance_uid="1.2.3",
    sop_class_uid=ComputedRadiographyImageStorage,
    series_instance_uid="1.2",
    study_instance_uid="1",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    modality="CR",
    body_part_examined="HAND",
    image_type=("ORIGINAL", "PRIMARY"),
)
DX = dataclasses.replace(
    CR,
    sop_class_uid=DigitalXRayImageStorageForPresentation,
    modality="DX",
    presentation_intent_type="FOR PRESENTATION",
    image_type=("DERIVED", "PRIMARY", ""),
)
SC = dataclasses.replace(
    CR, sop_class_uid=SecondaryCaptureImageStorage, modality="RG", image_type=("DERIVED", "SECONDARY")
)


@pytest.mark.parametrize(
    "header",
    [
        CR,
        DX,
        SC,
        dataclasses.replace(CR, modality="cr"),
        dataclasses.replace(CR, modality="DR"),
        dataclasses.replace(CR, image_type=()),
        dataclasses.replace(CR, image_type=("DERIVED", "PRIMARY", "POST_PROCESSED")),
        dataclasses.replace(SC, modality="CR"),
    ],
)
def test_plain_radiographs_of_limbs_are_analysed(header):
    assert out_of_scope_reason(header) is None


@pytest.mark.parametrize(
    "written",
    ["HAND", "hand", "HANDS", "LEFT HAND", "HAND_R", "Lt. Foot", "TIBIA FIBULA", "UPPER EXTREMITY", "HIP", "PELVIS"],
)
def test_allowed_body_parts_are_recognised_as_devices_write_them(written):
    assert out_of_scope_reason(dataclasses.replace(CR, body_part_examined=written)) is None


@pytest.mark.parametrize(
    "written", ["HEEL", "SCAPHOID", "METATARSALS", "TIB FIB", "ANKLE JOINT", "OS CALCIS", "Left heel"]
)
def test_usual_words_for_a_part_on_the_list_are_that_part(written):
    assert out_of_scope_reason(dataclasses.replace(CR, body_part_examined=written)) is None


def test_another_word_for_a_part_that_a_site_does_not_list_stays_out():
    header = dataclasses.replace(CR, body_part_examined="HEEL")

    assert out_of_scope_reason(header, ScopeRule(body_parts=frozenset({"HAND"}))) is not None


@pytest.mark.parametrize("written", ["CHEST", "SKULL", "LSPINE", "ABDOMEN", "HANDLE", "CHEST HAND"])
def test_other_body_parts_are_named_in_the_reason(written):
    reason = out_of_scope_reason(dataclasses.replace(CR, body_part_examined=written))

    assert reason == f"body part {written} is not on the list of analysed ones"


def test_a_body_part_that_is_no_code_string_is_not_repeated():
    reason = out_of_scope_reason(dataclasses.replace(CR, body_part_examined="DOE^JOHN 1970-01-01"))

    assert reason == "body part (not a DICOM term) is not on the list of analysed ones"


@pytest.mark.parametrize("written", [None, "", "  ", "UNKNOWN", "LEFT"])
def test_an_unknown_body_part_is_left_to_the_setting(written):
    header = dataclasses.replace(CR, body_part_examined=written)

    assert out_of_scope_reason(header) == "the body part is not given, and unknown ones are not analysed"
    assert out_of_scope_reason(header, ScopeRule(accept_unknown_body_part=True)) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sop_class_uid": CTImageStorage}, "CT Image Storage is not a radiograph that is analysed"),
        ({"sop_class_uid": BasicTextSRStorage}, "Basic Text SR Storage is not a radiograph that is analysed"),
        (
            {"sop_class_uid": Comprehensive3DSRStorage, "modality": "SR"},
            "Comprehensive 3D SR Storage is not a radiograph that is analysed",
        ),
        (
            {"sop_class_uid": GrayscaleSoftcopyPresentationStateStorage, "modality": "PR"},
            "Grayscale Softcopy Presentation State Storage is not a radiograph that is analysed",
        ),
        ({"sop_class_uid": "1.2.3.4"}, "this SOP class is not a radiograph that is analysed"),
        ({"modality": None}, "the modality is missing"),
        ({"modality": "CT"}, "modality CT is not analysed"),
        ({"modality": "DOE^JOHN"}, "modality (not a DICOM term) is not analysed"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "its image type says LOCALIZER"),
        (
            {"image_type": ("DERIVED", "SECONDARY")},
            "the image was derived from other images (DERIVED, SECONDARY)",
        ),
        (
            {"presentation_intent_type": "FOR PROCESSING"},
            "the image is raw data FOR PROCESSING, not for presentation",
        ),
        (
            {"sop_class_uid": DigitalXRayImageStorageForProcessing, "presentation_intent_type": None},
            "the image is raw data FOR PROCESSING, not for presentation",
        ),
    ],
)
def test_what_is_not_analysed_gets_a_reason_in_words(changes, reason):
    assert out_of_scope_reason(dataclasses.replace(CR, **changes)) == reason


@pytest.mark.parametrize("modality", ["OT", "SC"])
def test_a_secondary_capture_that_need_not_be_a_radiograph_is_not_analysed(modality):
    header = dataclasses.replace(SC, modality=modality)

    assert out_of_scope_reason(header) == f"modality {modality} is not analysed"
    assert out_of_scope_reason(header, ScopeRule(modalities=frozenset({"CR", modality}))) is None


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"presentation_intent_type": "FOR PROCESSING"}, ScopeRule(accept_for_processing=True)),
        ({"image_type": ("DERIVED", "SECONDARY")}, ScopeRule(accept_derived_secondary=True)),
        ({"image_type": ("ORIGINAL", "PRIMARY", "SCOUT")}, ScopeRule(refused_image_types=frozenset())),
        ({"body_part_examined": "CHEST"}, ScopeRule(body_parts=frozenset({"CHEST"}))),
    ],
)
def test_each_setting_admits_what_it_names(changes, rule):
    header = dataclasses.replace(CR, **changes)

    assert out_of_scope_reason(header) is not None
    assert out_of_scope_reason(header, rule) is None
