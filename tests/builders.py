"""Data sets for tests: small, synthetic radiographs with complete headers, and their Part 10 bytes.

Patients are invented; UIDs derive from the words given, so building twice gives the same object.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

SOP_CLASSES = {
    "CR": ComputedRadiographyImageStorage,
    "DX": DigitalXRayImageStorageForPresentation,
    "SC": SecondaryCaptureImageStorage,
}


def uid(*words: str) -> str:
    """Return the stable test UID that belongs to these words."""
    digest = hashlib.sha256("/".join(words).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def coded(value: str, scheme: str, meaning: str) -> Dataset:
    """Return one item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item


def ramp(rows: int = 24, columns: int = 32, bits: int = 12) -> np.ndarray:
    """Return uint16 pixels that rise from 0 at the top left to the largest value of `bits` at the bottom right."""
    return np.linspace(0, 2**bits - 1, rows * columns).round().astype(np.uint16).reshape(rows, columns)


def build_radiograph(
    kind: str = "CR",
    *,
    pixels: np.ndarray | None = None,
    bits_stored: int = 12,
    study: str = "study",
    series: str = "series",
    instance: str = "instance",
    transfer_syntax: str = ExplicitVRLittleEndian,
    **overrides: Any,
) -> Dataset:
    """Return a radiograph with a header that a strict validator accepts.

    `kind` is CR, DX or SC; `pixels` is (rows, columns) or (frames, rows, columns) of integers, two bytes a sample
    unless its type is 8 bit; `study`, `series` and `instance` are words that the UIDs are derived from. Every other
    keyword is a DICOM attribute that replaces the built one; None removes it.
    """
    pixels = ramp(bits=bits_stored) if pixels is None else pixels
    ds = Dataset()
    _add_identity(ds, kind, study, series, instance)
    _add_equipment_and_type(ds, kind)
    _add_pixels(ds, pixels, bits_stored)
    if kind == "CR":
        ds.PatientOrientation = ["L", "F"]
    if kind == "DX":
        _add_dx(ds)
    for keyword, value in overrides.items():
        if value is None:
            if keyword in ds:
                delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", SOP_CLASSES[kind])
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", uid(study, series, instance))
    ds.file_meta.TransferSyntaxUID = transfer_syntax
    return ds


def build_cr(**arguments: Any) -> Dataset:
    """Return a CR image: see `build_radiograph`."""
    return build_radiograph("CR", **arguments)


def build_dx(**arguments: Any) -> Dataset:
    """Return a DX image for presentation: see `build_radiograph`."""
    return build_radiograph("DX", **arguments)


def build_sc(**arguments: Any) -> Dataset:
    """Return a Secondary Capture image: see `build_radiograph`."""
    return build_radiograph("SC", **arguments)


def part10_bytes(ds: Dataset) -> bytes:
    """Return the data set as a DICOM file (PS3.10 7.1)."""
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def write_part10(ds: Dataset, path: Path) -> Path:
    """Write the data set as a DICOM file, folders included, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(part10_bytes(ds))
    return path


def _add_identity(ds: Dataset, kind: str, study: str, series: str, instance: str) -> None:
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = SOP_CLASSES[kind]
    ds.SOPInstanceUID = uid(study, series, instance)
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20240102"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "101112"
    ds.AccessionNumber = "TEST0001"
    ds.ReferringPhysicianName = ""
    ds.PatientName = "TEST^PHANTOM"
    ds.PatientID = "TEST-0001"
    ds.PatientBirthDate = "19700101"
    ds.PatientSex = "O"
    ds.StudyInstanceUID = uid(study)
    ds.SeriesInstanceUID = uid(study, series)
    ds.StudyID = "1"
    ds.SeriesNumber = 1
    ds.InstanceNumber = 1


def _add_equipment_and_type(ds: Dataset, kind: str) -> None:
    ds.ImageType = ["DERIVED", "SECONDARY"] if kind == "SC" else ["ORIGINAL", "PRIMARY"]
    ds.Modality = "OT" if kind == "SC" else kind
    ds.Manufacturer = "bonewatch tests"
    ds.BodyPartExamined = "HAND"
    if kind == "SC":
        ds.ConversionType = "DI"
        ds.PatientOrientation = ""
        ds.Laterality = "R"
    elif kind == "CR":
        ds.Laterality = "R"
        ds.ViewPosition = "PA"


def _add_pixels(ds: Dataset, pixels: np.ndarray, bits_stored: int) -> None:
    eight_bit = pixels.dtype.itemsize == 1
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    if pixels.ndim == 3:
        ds.NumberOfFrames = pixels.shape[0]
    ds.Rows, ds.Columns = pixels.shape[-2:]
    ds.BitsAllocated = 8 if eight_bit else 16
    ds.BitsStored = min(bits_stored, ds.BitsAllocated)
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB" if eight_bit else "OW"


def _add_dx(ds: Dataset) -> None:
    """Add what PS3.3 A.26 asks of a DX image beyond a CR: its type 1 attributes, and the empty type 2 ones."""
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""]
    ds.ImageLaterality = "R"
    ds.PatientOrientation = ["L", "F"]
    ds.ViewPosition = "PA"
    ds.AnatomicRegionSequence = Sequence([coded("85562004", "SCT", "Hand")])
    ds.ViewCodeSequence = Sequence([coded("272460009", "SCT", "Postero-anterior")])
    ds.ViewCodeSequence[0].ViewModifierCodeSequence = Sequence()
    # Empty sequences and attributes below are type 2: present, and allowed to say nothing.
    ds.AcquisitionContextSequence = Sequence()
    ds.ImagerPixelSpacing = [0.15, 0.15]
    ds.PositionerType = ""
    ds.DetectorType = "DIRECT"
    ds.DetectorConfiguration = "AREA"
    ds.PixelIntensityRelationship = "LOG"
    ds.PixelIntensityRelationshipSign = -1
    ds.RescaleIntercept = 0
    ds.RescaleSlope = 1
    ds.RescaleType = "US"
    ds.PresentationLUTShape = "IDENTITY"
    ds.LossyImageCompression = "00"
    ds.BurnedInAnnotation = "NO"
    ds.WindowCenter = 2048
    ds.WindowWidth = 4096
