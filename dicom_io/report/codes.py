"""The coded concepts of the report that highdicom's templates do not bring themselves (PS3.16)."""

from __future__ import annotations

from pydicom.sr.coding import Code

from dicom_io.types import Outcome

# SNOMED CT has two fractures: 72704001, the shape seen in a structure (morphologic abnormality), and 125605004, the
# disorder of a patient. An algorithm sees a shape in an image; the disorder is the physician's word. Hence the first,
# everywhere in the report.
FRACTURE = Code("72704001", "SCT", "Fracture")
PLAIN_RADIOGRAPHY = Code("168537006", "SCT", "Plain radiography")
PROBABILITY = Code("122157", "DCM", "Probability")
NO_UNITS = Code("1", "UCUM", "no units")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
BOUNDED_BY = Code("75958009", "SCT", "Bounded by")
COMMENT = Code("121106", "DCM", "Comment")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
SUMMARY_OF_ANALYSES = Code("111065", "DCM", "Summary of Analyses")

# CID 240 Present-Absent has a third member for what is neither; "Undetermined" is therefore the word for inconclusive.
PRESENCE = {
    Outcome.PRESENT: Code("52101004", "SCT", "Present"),
    Outcome.INCONCLUSIVE: Code("373068000", "SCT", "Undetermined"),
    Outcome.ABSENT: Code("272519000", "SCT", "Absent"),
}
# CID 6042 Status of Results: an image without an answer says so in a code too, never by Present or Absent.
ANALYSIS_STATUS = {
    Outcome.FAILED: Code("111224", "DCM", "Failed"),
    Outcome.OUT_OF_SCOPE: Code("111225", "DCM", "Not Attempted"),
}
LATERALITY = {
    "R": Code("24028007", "SCT", "Right"),
    "L": Code("7771000", "SCT", "Left"),
    "B": Code("51440002", "SCT", "Right and left"),
}
