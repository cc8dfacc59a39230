"""Files that a site may meet and that no analysis can come of, each small and each wrong in one way."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import PIL.Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import BasicTextSRStorage, RLELossless

from tests.builders import build_cr, build_dx, coded, part10_bytes, ramp
from tests.product import SAMPLES

UNKNOWN_SYNTAX = "1.2.826.0.1.3680043.10.1234.5"


def truncated() -> bytes:
    """A real radiograph whose transfer ended half way through the pixels."""
    (sample,) = SAMPLES.glob("05*/*.dcm")
    content = sample.read_bytes()
    return content[: len(content) // 2]


def truncated_header() -> bytes:
    """A radiograph that ends in the middle of an element long before the pixels."""
    content = part10_bytes(build_cr(study="cut", instance="header"))
    return content[: content.index(b"bonewatch tests") + 4]


def short_pixels() -> bytes:
    """More rows declared than there are pixels for."""
    return part10_bytes(build_cr(study="short", Rows=500))


def unknown_transfer_syntax() -> bytes:
    """A transfer syntax that nobody knows."""
    return part10_bytes(build_cr(study="syntax")).replace(
        padded("1.2.840.10008.1.2.1"), padded("1.2.840.10008.9.9.9"), 1
    )


def enormous() -> bytes:
    """46341 x 46341 pixels, more than 2^31, declared in ten kilobytes of compressed data."""
    ds = build_dx(study="bomb", Rows=46341, Columns=46341, transfer_syntax=RLELossless)
    fragment = bytes(9_000)
    # PS3.5 A.4: an empty offset table, one fragment, the delimiter.
    ds.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0" + b"\xfe\xff\x00\xe0" + len(fragment).to_bytes(4, "little") + fragment
    ds.PixelData += b"\xfe\xff\xdd\xe0\0\0\0\0"
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return part10_bytes(ds)


def without_study() -> bytes:
    """No StudyInstanceUID: nobody could say where the report belongs."""
    return part10_bytes(build_cr(study="none", StudyInstanceUID=None))


def text() -> bytes:
    """Prose under the name of an image."""
    return b"This is not an image but a note that somebody saved under the wrong name.\n" * 40


def not_dicom() -> bytes:
    """Bytes of no known format."""
    return np.random.default_rng(7).integers(0, 256, 5000, np.uint8).tobytes()


def structured_report() -> bytes:
    """A report that a PACS pushes along with its images: sound DICOM, and nothing to analyse."""
    ds = build_cr(study="report")
    for keyword in ("Rows", "Columns", "PixelData", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(ds, keyword)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage
    ds.Modality = "SR"
    ds.ReferencedPerformedProcedureStepSequence = ds.PerformedProcedureCodeSequence = Sequence()
    ds.ValueType = "CONTAINER"
    ds.ContinuityOfContent = "SEPARATE"
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    ds.ConceptNameCodeSequence = Sequence([coded("18748-4", "LN", "Diagnostic imaging report")])
    line = Dataset()
    line.RelationshipType, line.ValueType, line.TextValue = "CONTAINS", "TEXT", "A line of text."
    line.ConceptNameCodeSequence = Sequence([coded("121071", "DCM", "Finding")])
    ds.ContentSequence = Sequence([line])
    return part10_bytes(ds)


def good(study: str) -> bytes:
    """A radiograph that nothing is wrong with."""
    return part10_bytes(build_dx(study=study, PatientID="TEST-GOOD", pixels=ramp(240, 320)))


FAILED = {
    "truncated.dcm": truncated,
    "truncated-header.dcm": truncated_header,
    "short-pixels.dcm": short_pixels,
    "unknown-transfer-syntax.dcm": unknown_transfer_syntax,
    "enormous.dcm": enormous,
    "without-study.dcm": without_study,
    "text.dcm": text,
    "bytes.bin": not_dicom,
    "empty.dcm": bytes,
}
"""What `analyze` must call failed, by file name."""


def padded(text_uid: str) -> bytes:
    """Return a UID as it stands in a file: even length, padded with a null (PS3.5 9.1)."""
    return text_uid.encode() + b"\0" * (len(text_uid) % 2)


def is_one_clear_line(reason: str | None) -> bool:
    """Say whether a reason is one line of words, without a Python class, a traceback or a patient."""
    if not reason or "\n" in reason or len(reason) > 300:
        return False
    return not re.search(r"Traceback|Error\(|object at 0x|PHANTOM|TEST-\d|<class", reason) and len(reason.split()) > 2


def write_all(folder: Path) -> dict[str, Path]:
    """Write every bad file, the report and a good radiograph, and return their paths by name."""
    contents = {name: make() for name, make in FAILED.items()}
    contents |= {"report.dcm": structured_report(), "good.dcm": good("good")}
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def filled_jpeg(first_row: int) -> bytes:
    """Return a JPEG that ends in what decoders make of zeros, saved once more: every code of it is sound."""
    down, across = np.mgrid[0:300, 0:260]
    pixels = (down / 3 + across / 3 + np.random.default_rng(0).normal(0, 2, down.shape)).clip(1, 255).astype(np.uint8)
    pattern = np.full((8, 8), 40, np.uint8)
    pattern[3:5, 3:5] = 44
    pixels[first_row:] = np.tile(pattern, (40, 40))[: 300 - first_row, :260]
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
