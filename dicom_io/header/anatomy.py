"""Which part of the body a header names: Body Part Examined and Anatomic Region Sequence (PS3.16 Annex L).

A DX image must have Anatomic Region Sequence, though it may be empty, and need not have Body Part Examined
(PS3.3 C.8.11.2); a CR mostly has the word alone. Both are read into the same Defined Terms, so that one rule judges
them. A code counts only where it is a known one: its Code Meaning is free text and names nothing by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from pydicom.sr._snomed_dict import mapping as snomed_mapping
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from dicom_io.types import Concept, InstanceHeader

# Defined Terms of PS3.16 Table L-1 and some that devices write, to pydicom's keywords of the SNOMED CT concepts
# (CID 4, 4009, 4031). The first is what a report calls the part by.
_PARTS = {
    "ACJOINT": "AcromioclavicularJoint",
    "ANKLE": "AnkleJoint Talus",
    "CALCANEUS": "Calcaneus CalcanealTubercle",
    "CLAVICLE": "Clavicle",
    "ELBOW": "ElbowJoint",
    "EXTREMITY": "Extremity",
    "FEMUR": "Femur HeadOfFemur ProximalFemur ShaftOfFemur DistalFemur",
    "FIBULA": "Fibula",
    "FINGER": "Finger FingerJoint",
    "FOOT": "Foot Tarsus TarsalJoint Metatarsus NavicularOfHindfoot SesamoidBonesOfFoot",
    "FOREARM": "Forearm",
    "HAND": "Hand HandBone",
    "HIP": "Hip HipJoint Acetabulum",
    "HUMERUS": "Humerus ProximalHumerus ShaftOfHumerus DistalHumerus",
    "KNEE": "Knee KneeJoint",
    "LOWERLEG": "LowerLeg StructureOfCalfOfLeg",
    "LOWERLIMB": "LowerLimb BoneOfLowerLimb MuscleOfLowerLimb",
    "METACARPUS": "Metacarpus",
    "PATELLA": "Patella",
    "PELVIS": "Pelvis PelvicStructure BoneStructureOfPelvis",
    "RADIUS": "RadiusBone ProximalRadius ShaftOfRadius DistalRadius",
    "RADIUSULNA": "RadiusAndUlna",
    "SCAPULA": "Scapula AcromionProcessOfScapula CoracoidProcessOfScapula GlenoidCavityOfScapula",
    "SHOULDER": "Shoulder ShoulderGirdleStructure",
    "THIGH": "Thigh",
    "THUMB": "Thumb",
    "TIBIA": "Tibia TibialPlateau ShaftOfTibia DistalTibia MalleolarStructureOfTibia",
    "TIBIAFIBULA": "TibiaAndFibula",
    "TOE": "Toe",
    "ULNA": "Ulna ProximalUlna ShaftOfUlna DistalUlna",
    "UPPERARM": "UpperArm",
    "UPPERLIMB": "UpperLimb BoneOfUpperLimb MuscleOfUpperLimb",
    "WRIST": "WristJoint Carpus Scaphoid",
    # What is no extremity
    "ABDOMEN": "Abdomen",
    "ABDOMENPELVIS": "AbdomenAndPelvis AbdomenAndOrPelvisStructure",
    "BILEDUCT": "BileDuct",
    "BILIARYTRACT": "BiliaryTract",
    "BLADDER": "Bladder",
    "BREAST": "Breast",
    "BRONCHUS": "Bronchus",
    "CHEST": "Chest",
    "CHESTABDOMEN": "ChestAndAbdomen",
    "CHESTABDPELVIS": "ChestAbdomenAndPelvis",
    "COCCYX": "Coccyx",
    "COLON": "Colon",
    "COMMONBILEDUCT": "CommonBileDuct",
    "CSPINE": "CervicalSpine",
    "CTSPINE": "CervicoThoracicSpine",
    "DUODENUM": "Duodenum",
    "ESOPHAGUS": "Esophagus",
    "EYE": "Eye EyeRegion",
    "FACE": "Face FacialBones",
    "GALLBLADDER": "Gallbladder",
    "HEAD": "Head",
    "HEADNECK": "HeadAndNeck",
    "HEART": "Heart",
    "IAC": "InternalAuditoryCanal",
    "ILEUM": "Ileum",
    "ILIUM": "Ilium",
    "JAW": "JawRegion",
    "JEJUNUM": "Jejunum",
    "LARGEINTESTINE": "LargeIntestine",
    "LARYNX": "Larynx",
    "LSPINE": "LumbarSpine",
    "LSSPINE": "LumboSacralSpine",
    "LUNG": "Lung ApexOfLung",
    "MANDIBLE": "Mandible",
    "MASTOID": "MastoidBone",
    "MAXILLA": "Maxilla",
    "MEDIASTINUM": "Mediastinum",
    "NECK": "Neck",
    "NECKCHEST": "NeckAndChest",
    "NECKCHESTABDOMEN": "NeckChestAndAbdomen",
    "NECKCHESTABDPELV": "NeckChestAbdomenAndPelvis",
    "NOSE": "Nose NasalBone",
    "OPTICCANAL": "OpticCanal",
    "ORBIT": "OrbitalStructure",
    "PANCREAS": "Pancreas",
    "PANCREATICDUCT": "PancreaticDuct",
    "PANCBILEDUCT": "PancreaticDuctAndBileDuctSystems",
    "PAROTID": "ParotidGland",
    "PELVISLOWEXTREMT": "PelvisAndLowerExtremities PelvisAndOrLowerExtremityStructure",
    "PHANTOM": "Phantom",
    "PROSTATE": "Prostate",
    "RECTUM": "Rectum",
    "RIB": "Rib",
    "SCJOINT": "SternoclavicularJoint",
    "SELLA": "SellaTurcica",
    "SIJOINT": "SacroiliacJoint",
    "SKULL": "Skull",
    "SMALLINTESTINE": "SmallIntestine",
    "SPINE": "Spine",
    "SSPINE": "Sacrum SacroCoccygealSpine",
    "STERNUM": "Sternum",
    "STOMACH": "Stomach",
    "SUBMANDIBULAR": "SubmandibularGland",
    "TLSPINE": "ThoracoLumbarSpine",
    "TMJ": "TemporomandibularJoint",
    "TRACHEA": "Trachea",
    "TSPINE": "ThoracicSpine",
    "UPRURINARYTRACT": "UpperUrinaryTract",
    "URETER": "Ureter",
    "URETHRA": "Urethra",
    "WHOLEBODY": "EntireBody",
    "ZYGOMA": "Zygoma",
}
# Further words of Body Part Examined for parts above: former Defined Terms and usual ones.
_OTHER_WORDS = {
    "ACROMIOCLAVJOINT": "ACJOINT",
    "ANKLEJOINT": "ANKLE",
    "ARM": "UPPERARM",
    "CALF": "LOWERLEG",
    "CARPAL": "WRIST",
    "CARPUS": "WRIST",
    "ELBOWJOINT": "ELBOW",
    "FEET": "FOOT",
    "FOREFOOT": "FOOT",
    "HEEL": "CALCANEUS",
    "HINDFOOT": "FOOT",
    "HIPJOINT": "HIP",
    "KNEEJOINT": "KNEE",
    "LEG": "LOWERLEG",
    "LOWEREXTREMITY": "LOWERLIMB",
    "METACARPAL": "METACARPUS",
    "METATARSAL": "FOOT",
    "METATARSUS": "FOOT",
    "OSCALCIS": "CALCANEUS",
    "SACRUM": "SSPINE",
    "SCAPHOID": "WRIST",
    "SHOULDERJOINT": "SHOULDER",
    "TARSUS": "FOOT",
    "TIBFIB": "TIBIAFIBULA",
    "TIBIAANDFIBULA": "TIBIAFIBULA",
    "UPPEREXTREMITY": "UPPERLIMB",
    "WRISTJOINT": "WRIST",
}
# Concepts of SNOMED CT that pydicom's dictionary lacks: regions, those with a side (which the laterality attributes
# tell), and former concepts of the trunk.
_FURTHER_CODES = {
    "ABDOMEN": "113345001 818983003",
    "ANKLE": "344001 6685009 51636004",
    "CHEST": "51185008 67734004 40768004 51872008",
    "ELBOW": "368149001 368148009",
    "FINGER": "770841009 770842002 770884005 770885006 770882009 770883004 762101005 762102003",
    "FOOT": "7769000 22335008",
    "FOREARM": "64262003 66480008",
    "HAND": "78791008 85151006",
    "HIP": "287579007 287679003",
    "KNEE": "6757004 82169009",
    "LOWERLEG": "32696007 48979004",
    "SHOULDER": "91774008 91775009",
    "THIGH": "11207009 61396006",
    "THUMB": "734144001 734143007",
    "TOE": "723724004 723730004 895650002 895651003",
    "UPPERARM": "368209003 368208006",
    "WRIST": "9736006 5951000",
}
_UPPER_LIMB = frozenset(
    (
        *("ACJOINT", "CLAVICLE", "ELBOW", "EXTREMITY", "FINGER", "FOREARM", "HAND", "HUMERUS", "METACARPUS", "RADIUS"),
        *("RADIUSULNA", "SCAPULA", "SCJOINT", "SHOULDER", "THUMB", "ULNA", "UPPERARM", "UPPERLIMB", "WRIST"),
    )
)
_LOWER_LIMB = frozenset(
    (
        *(
            "ANKLE",
            "CALCANEUS",
            "EXTREMITY",
            "FEMUR",
            "FIBULA",
            "FOOT",
            "HIP",
            "ILIUM",
            "KNEE",
            "LOWERLEG",
            "LOWERLIMB",
        ),
        *("PATELLA", "PELVIS", "PELVISLOWEXTREMT", "SIJOINT", "THIGH", "TIBIA", "TIBIAFIBULA", "TOE"),
    )
)

_SNOMED_CT = frozenset({"SCT", "SNOMED-CT", "SNOMED CT", "SNOMEDCT", "2.16.840.1.113883.6.96"})
_SNOMED_RT = frozenset({"SRT", "SNM3", "99SDM", "SNOMED-RT"})  # PS3.16 8.1: the first three are one for anatomy
_CONCEPT_ID = re.compile(r"\d{6,18}", re.ASCII)
_CONCEPT_ADDRESS = re.compile(
    r"(?:https?://snomed\.info/(?:id|sct)/|urn:\S*2\.16\.840\.1\.113883\.6\.96[.:])(\d{6,18})"
)
_SIDES = frozenset({"L", "R", "LT", "RT", "LEFT", "RIGHT", "BOTH", "BILAT", "BILATERAL"})
_NOTHING_SAID = frozenset({"", "UNKNOWN", "UNDEFINED", "UNSPECIFIED", "OTHER", "NONE", "NA"})


LIMBS, ELSEWHERE = frozenset({"upper limb", "lower limb"}), frozenset({"elsewhere"})


def part_term(body_part_examined: str | None) -> str:
    """Return Body Part Examined in capitals without spaces and sides; empty where it says nothing."""
    words = re.split(r"[^A-Z0-9]+", (body_part_examined or "").upper())
    term = "".join(word for word in words if word not in _SIDES)
    return "" if term in _NOTHING_SAID else term


def region_term(concept: Concept) -> str | None:
    """Return the Defined Term of Body Part Examined that a code stands for, or None where the code is not known."""
    return _terms().get(snomed_code(concept) or "")


def other_region(concept: Concept) -> str | None:
    """Return the words for a known code of a region, organ or vessel that has no term here; None for any other code."""
    return _other_regions().get(snomed_code(concept) or "")


def areas_of(term: str) -> frozenset[str]:
    """Return where a known Defined Term is at home: upper limb with shoulder, lower limb with pelvis, the rest."""
    limbs = {"upper limb": term in _UPPER_LIMB, "lower limb": term in _LOWER_LIMB}
    return frozenset(limb for limb, there in limbs.items() if there) or ELSEWHERE


def snomed_code(concept: Concept) -> str | None:
    """Return the SNOMED CT identifier of a code of SNOMED CT or SNOMED RT, None where it is neither."""
    value, scheme = concept.value.strip(), concept.scheme.strip().upper()
    address = _CONCEPT_ADDRESS.fullmatch(value)
    if address:
        return address[1]
    if scheme in _SNOMED_RT or (scheme in _SNOMED_CT and not _CONCEPT_ID.fullmatch(value)):
        value = snomed_mapping["SRT"].get(value.upper(), "")
    elif scheme not in _SNOMED_CT and not scheme.startswith("HTTP://SNOMED.INFO/SCT"):
        return None
    return value if _CONCEPT_ID.fullmatch(value) else None


def body_part(body_part_examined: str | None, regions: Iterable[Concept]) -> str | None:
    """Return the part of the body that a header names: its word as it is, and where that says nothing, its code's."""
    if part_term(body_part_examined):
        return body_part_examined
    terms = (region_term(concept) for concept in regions)
    return next((term for term in terms if term is not None), body_part_examined)


def site_code(header: InstanceHeader) -> Code | None:
    """Return the SNOMED CT code of the part that a header names: the header's own where it has one for that part."""
    word = word_term(part_term(header.body_part_examined))
    for concept in header.anatomic_regions:
        found = snomed_code(concept)
        if found and concept.meaning and word in (None, region_term(concept)):
            return Code(found, "SCT", concept.meaning)
    return None if word is None else _concepts(word)[0]


def word_term(term: str) -> str | None:
    """Return the Defined Term for a word of Body Part Examined, such as LOWERLEG for LEG; None for an unknown word."""
    for word in (term, term.removesuffix("S")):
        if _OTHER_WORDS.get(word, word) in _PARTS:
            return _OTHER_WORDS.get(word, word)
    return None


def _concepts(term: str) -> list[Code]:
    return [getattr(codes.SCT, keyword) for keyword in _PARTS[term].split()]


@cache
def _terms() -> dict[str, str]:
    terms = {code: term for term, further in _FURTHER_CODES.items() for code in further.split()}
    for term in _PARTS:
        terms |= {code.value: term for code in _concepts(term)}
    return terms


@cache
def _other_regions() -> dict[str, str]:
    groups = (codes.cid4, codes.cid4009, codes.cid4028, codes.cid4030, codes.cid4031, codes.cid4040, codes.cid4042)
    known = {code.value: code.meaning for group in groups for code in group.concepts.values()}
    return {value: meaning for value, meaning in known.items() if value not in _terms()}
