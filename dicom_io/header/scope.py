"""Which instances are analysed, and in words why the others are not.

The rule is cautious: it admits what the models were made for, plain radiographs of limbs, hips and shoulders, and names
a reason for everything else. A reason is not a refusal of the instance: the PACS still gets Success (a study is pushed
whole, reports and presentation states included), and the reason is recorded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from dicom_io.class_names import is_image_class
from dicom_io.header.anatomy import ELSEWHERE, LIMBS, areas_of, other_region, part_term, region_term, word_term
from dicom_io.header.region_words import parts_named
from dicom_io.types import Concept, InstanceHeader

SECONDARY_CAPTURE_CLASSES = frozenset(
    {
        SecondaryCaptureImageStorage,
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        MultiFrameTrueColorSecondaryCaptureImageStorage,
    }
)
RADIOGRAPH_CLASSES = SECONDARY_CAPTURE_CLASSES | {
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
}

# What the training collection shows, hand, leg, hip and shoulder regions, each with the bones in its picture. DICOM's
# terms (PS3.16 Annex L), and some that devices write though they are none: FOREARM, UPPERARM, LOWERLEG, FEET, limbs.
LIMBS_HIPS_SHOULDERS = frozenset(
    (
        *("HAND", "FINGER", "THUMB", "WRIST", "CARPUS", "METACARPUS", "FOREARM", "RADIUS", "ULNA", "RADIUSULNA"),
        *("ELBOW", "ARM", "UPPERARM", "HUMERUS", "SHOULDER", "CLAVICLE", "SCAPULA"),
        *("LEG", "LOWERLEG", "CALF", "TIBIA", "FIBULA", "TIBIAFIBULA", "ANKLE", "FOOT", "FEET", "CALCANEUS", "TOE"),
        *("KNEE", "PATELLA", "THIGH", "FEMUR", "HIP", "PELVIS"),
        *("EXTREMITY", "UPPEREXTREMITY", "LOWEREXTREMITY", "UPPERLIMB", "LOWERLIMB"),
    )
)

# Words of Image Type, values 3 and on, for pictures that guide, show or report rather than depict (PS3.3 C.7.6.1.1.2)
NOT_A_RADIOGRAPH = frozenset({"LOCALIZER", "SCOUT", "SCREEN SAVE", "SCREENSHOT", "DOSE REPORT"})

_CODE_STRING = re.compile(r"[A-Z0-9_ ]{1,16}", re.ASCII)  # PS3.5 6.2, CS


@dataclass(frozen=True, slots=True)
class ScopeRule:
    """What a site wants analysed.

    Attributes
    ----------
    sop_classes
        CR, DX and Secondary Capture by default.
    modalities
        CR, DX and RG (film), and DR, which is not DICOM's word but is met. A Secondary Capture needs one of them too:
        with OT or SC it is as likely a scanned letter, a screenshot, or the marked image that bonewatch itself sent.
    body_parts
        Allowed values of BodyPartExamined, in capitals without spaces; sides and a plural S are looked through. The
        codes of AnatomicRegionSequence are held against the same list.
    accept_unknown_body_part
        Whether an image that names no part of the body is analysed. Many CR name none, among them the chests and spines
        on which the models were never tested: no, unless a site knows that only limbs are sent. An image whose
        descriptions name a part that is no extremity stays out all the same.
    accept_for_processing
        Whether raw detector data (DX FOR PROCESSING) is. Its grey scale is not for eyes, the models have not seen it,
        and the same exposure usually comes FOR PRESENTATION too.
    accept_derived_secondary
        Whether a CR or DX that was made from other images is. DERIVED alone says little: most CR and DX are
        edge-enhanced or were once compressed, and rightly say DERIVED and PRIMARY; those are analysed. DERIVED and
        SECONDARY is a rework of images that were sent too (a print layout, an annotated copy) and would count twice.
    refused_image_types
        Words anywhere in ImageType that keep an image out.
    """

    sop_classes: frozenset[str] = RADIOGRAPH_CLASSES
    modalities: frozenset[str] = frozenset({"CR", "DX", "DR", "RG"})
    body_parts: frozenset[str] = LIMBS_HIPS_SHOULDERS
    accept_unknown_body_part: bool = False
    accept_for_processing: bool = False
    accept_derived_secondary: bool = False
    refused_image_types: frozenset[str] = NOT_A_RADIOGRAPH


def out_of_scope_reason(header: InstanceHeader, rule: ScopeRule | None = None) -> str | None:
    """Return None for an instance that is to be analysed, else one line of words without patient data.

    References
    ----------
    PS3.3 C.7.6.1.1.2 (Image Type), C.8.11.3 (Presentation Intent Type), PS3.16 Annex L (Body Part Examined).
    """
    rule = rule or ScopeRule()
    return (
        _kind_reason(header, rule)
        or _intent_reason(header, rule)
        or _image_type_reason(header, rule)
        or _body_part_reason(header, rule)
    )


def is_acquired(sop_class_uid: str) -> bool:
    """Say whether a SOP class is of images that were taken of a patient: no report, no copy of a screen or of a letter.

    A class that nobody here knows is none.
    """
    return is_image_class(sop_class_uid) and sop_class_uid not in SECONDARY_CAPTURE_CLASSES


def _kind_reason(header: InstanceHeader, rule: ScopeRule) -> str | None:
    if header.sop_class_uid not in rule.sop_classes:
        name = UID(header.sop_class_uid).name
        return f"{name if name != header.sop_class_uid else 'this SOP class'} is not a radiograph that is analysed"
    if not header.modality:
        return "the modality is missing"
    if header.modality.upper() not in rule.modalities:
        return f"modality {_quoted(header.modality)} is not analysed"
    return None


def _intent_reason(header: InstanceHeader, rule: ScopeRule) -> str | None:
    raw = header.presentation_intent_type == "FOR PROCESSING"
    if (raw or header.sop_class_uid == DigitalXRayImageStorageForProcessing) and not rule.accept_for_processing:
        return "the image is raw data FOR PROCESSING, not for presentation"
    return None


def _image_type_reason(header: InstanceHeader, rule: ScopeRule) -> str | None:
    words = {word.strip().upper() for word in header.image_type}
    for word in sorted(words & rule.refused_image_types):
        return f"its image type says {word}"
    captured = header.sop_class_uid in SECONDARY_CAPTURE_CLASSES
    if {"DERIVED", "SECONDARY"} <= words and not captured and not rule.accept_derived_secondary:
        return "the image was derived from other images (DERIVED, SECONDARY)"
    return None


def _body_part_reason(header: InstanceHeader, rule: ScopeRule) -> str | None:
    """Judge what Body Part Examined and the codes of the anatomic region name; descriptions only where they do not."""
    term = part_term(header.body_part_examined)
    written = _quoted((header.body_part_examined or "").strip())
    regions = [_Region(concept, rule) for concept in header.anatomic_regions]
    if not term:
        return _region_reason(regions[0]) if regions else _unknown_reason(header, rule)
    for region in regions:
        if not region.areas & _areas_of_word(term, header.body_part_examined or ""):
            return f"body part {written} and anatomic region {region.words} contradict each other"
    # A word that is no term says as little as none: then the codes decide.
    coded = regions if word_term(term) is None else [region for region in regions if region.term == term]
    if _is_listed(term, rule) or (coded and all(region.listed for region in coded)):
        return None
    return f"body part {written} is not on the list of analysed ones"


class _Region:
    """A code of the anatomic region, held against the list; a code that is not known could be anywhere."""

    def __init__(self, concept: Concept, rule: ScopeRule) -> None:
        self.concept = concept
        self.term = region_term(concept)
        self.listed = self.term is not None and _is_listed_region(self.term, rule)
        # What an unknown code means is free text, which may keep an image out.
        self.words = self.term or other_region(concept) or next(iter(parts_named(concept.meaning)), None)
        self.areas = LIMBS | ELSEWHERE if self.words is None else areas_of(self.words)


def _areas_of_word(term: str, written: str) -> frozenset[str]:
    known = word_term(term)
    return areas_of(known) if known else ELSEWHERE if parts_named(written) else LIMBS


def _region_reason(region: _Region) -> str:
    """Say why a code without a term of its own, which is all that names the part, keeps the image out."""
    if region.words is not None:
        return f"anatomic region {region.words} is not on the list of analysed ones"
    scheme = region.concept.scheme
    return f"the anatomic region is a code that is not known here{f', of {_quoted(scheme)}' if scheme else ''}"


def _unknown_reason(header: InstanceHeader, rule: ScopeRule) -> str | None:
    if not rule.accept_unknown_body_part:
        return "the body part is not given, and unknown ones are not analysed"
    for name, text in header.descriptions:
        for part in parts_named(text):
            if not _is_listed_region(part, rule):
                return f"the body part is not given, and the {name} names {part}"
    return None


def _is_listed(term: str, rule: ScopeRule) -> bool:
    # HANDS and KNEES are the same parts, twice; HEEL is another word for CALCANEUS
    if term in rule.body_parts or term.removesuffix("S") in rule.body_parts:
        return True
    known = word_term(term)
    return known is not None and _is_listed_region(known, rule)


def _is_listed_region(term: str, rule: ScopeRule) -> bool:
    # A list may say LEG where a code says lower leg
    return term in rule.body_parts or any(word_term(part) == term for part in rule.body_parts)


def _quoted(text: str) -> str:
    """Return a code string as it stands; what is none could be anything, a name included, and is not repeated."""
    return text if _CODE_STRING.fullmatch(text.upper()) else "(not a DICOM term)"
