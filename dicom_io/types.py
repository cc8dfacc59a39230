"""The words this package shares with its callers.

Coordinates. A box is given in pixels of the original image: x runs along the columns to the right, y along the
rows downwards, (0, 0) is the top left corner of the first pixel and (columns, rows) the bottom right corner of the
last one. The first pixel therefore covers 0..1 in both directions and its centre is (0.5, 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class Outcome(StrEnum):
    """The one explicit answer for an image or a study, gravest first."""

    PRESENT = "present"
    INCONCLUSIVE = "inconclusive"
    FAILED = "failed"
    ABSENT = "absent"
    OUT_OF_SCOPE = "out_of_scope"


@dataclass(frozen=True, slots=True)
class Concept:
    """A code as a header has it (PS3.3 8.8); all three are empty where a code is there and cannot be read."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class InstanceHeader:
    """What is known of an instance before its pixels are touched. Empty or missing text is None.

    `body_part_examined` is the term of the first of `anatomic_regions`, the codes of the part of the body, where the
    attribute itself says nothing; `descriptions` holds the free texts about study, series and procedure, each with the
    name of its attribute.
    `attributes_digest` is the identity of what its answer and its report depend on besides the pixels
    (`dicom_io.receive.equivalence`), None where nobody asked for it or it cannot be read.
    """

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    modality: str | None = None
    body_part_examined: str | None = None
    laterality: str | None = None
    view_position: str | None = None
    image_type: tuple[str, ...] = ()
    presentation_intent_type: str | None = None
    photometric_interpretation: str | None = None
    rows: int | None = None
    columns: int | None = None
    number_of_frames: int = 1
    patient_id: str | None = None
    issuer_of_patient_id: str | None = None
    accession_number: str | None = None
    study_date: str | None = None
    anatomic_regions: tuple[Concept, ...] = ()
    descriptions: tuple[tuple[str, str], ...] = ()
    attributes_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """Who sent something: the calling AE title and the network address it came from, and how it came.

    `source` is 'push' where the other side called us, 'upload' where a person brought a file, else 'get' or 'dicomweb':
    we asked for it and it came on our own connection. What is pushed may say that a C-MOVE with `move_message_id` set
    it off (PS3.7 9.1.1.1); whether that is so, and was ours, is for the intake to find out.
    """

    ae_title: str
    address: str
    source: str = "push"
    move_message_id: int | None = None


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A Part 10 file that is durable on disk.

    `path` is relative to the root of the store; `digest` is the SHA-256 (hexadecimal) of the encoded data set as it
    was received, without preamble and file meta information; `size_bytes` counts the whole file.
    """

    path: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class KnownInstance:
    """What is on record for a SOP Instance UID that came before.

    `stored` is its file, of which nothing is left where `deleted`. `attributes_digest` and `pixel_digest` tell what it
    was, also after that; None where nobody found out.
    """

    stored: StoredFile
    deleted: bool
    study_instance_uid: str
    attributes_digest: str | None = None
    pixel_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Replacement:
    """An instance that takes the place of one on record, `known`, which must still be as it was when it was looked at.

    `pixels` says how the two compare: the same, different, or unknown. `same_content` where nothing differs that an
    answer or its report depends on.
    """

    known: KnownInstance
    pixels: str
    same_content: bool


class Registration(StrEnum):
    """How intake answers for a stored instance."""

    NEW = "new"
    DUPLICATE = "duplicate"
    RESTORED = "restored"
    REPLACED = "replaced"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An instance that was refused, and why.

    `reason` is one line of words for an administrator, free of patient data; `status` is the DIMSE status that was
    answered (PS3.4 B.2.3, PS3.7 Annex C), None where no C-STORE was involved; `quarantine_path` is relative to the
    root of the store.
    """

    code: str
    reason: str
    peer: Peer
    status: int | None = None
    sop_instance_uid: str | None = None
    quarantine_path: str | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, ready for analysis.

    `number` counts from 1 (PS3.3 C.7.6.6); `pixels` is float32, shape (rows, columns), 0..1, 1 = bright bone;
    `spacing_mm` is (between rows, between columns) or None where the header does not say; `aspect` is the height of a
    pixel divided by its width. `warnings` holds a sentence for each attribute that was left aside or mended, in words
    free of patient data. `values_digest` is the identity of the frame's stored values (`dicom_io.pixels.identity`).
    """

    number: int
    pixels: NDArray[np.float32]
    spacing_mm: tuple[float, float] | None = None
    aspect: float = 1.0
    warnings: tuple[str, ...] = ()
    values_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Box:
    """A finding's rectangle in pixels of the original image (see the head of this module) and its score in 0..1."""

    x1: float
    y1: float
    x2: float
    y2: float
    score: float


@dataclass(frozen=True, slots=True)
class ReportedImage:
    """One image (one frame of one instance) in a report.

    `path` names the stored source file; `probability` is None exactly when the image was not analysed, and `reason`
    then says why, in words free of patient data.
    """

    path: Path
    frame_number: int
    outcome: Outcome
    probability: float | None = None
    boxes: tuple[Box, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Algorithm:
    """The identity of the model for TID 4019: `parameters` are lines such as 'high operating point = 0.62'."""

    name: str
    version: str
    manufacturer: str
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportReference:
    """A composite object in the PACS, by class and instance."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str


@dataclass(frozen=True, slots=True)
class Destination:
    """A PACS that receives reports.

    `confirm` says how delivery is known to be final: 'commitment' (storage commitment, PS3.4 Annex J), 'find'
    (C-FIND on the SOP Instance UID) or 'store' (the C-STORE answer alone).
    """

    name: str
    ae_title: str
    host: str
    port: int
    calling_ae_title: str
    confirm: str = "commitment"
    timeout_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """The PACS's answer to a storage commitment request (PS3.4 J.3.3).

    `failed` holds (SOP Instance UID, failure reason 0008,1197).
    """

    transaction_uid: str
    committed: tuple[str, ...]
    failed: tuple[tuple[str, int], ...] = ()
