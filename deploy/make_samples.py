"""Make the sample studies of deploy/samples from FracAtlas.

    python deploy/make_samples.py DATA [SAMPLES]

DATA is the folder with FracAtlas's images/, labels.csv and boxes_valid.json; SAMPLES defaults to deploy/samples.
Patients, dates, sides and millimetres are invented; the pixels, regions, labels and boxes are the collection's. Only
images of the validation block are used, so no sample was seen in training. The same input gives the same files.
"""

from __future__ import annotations

import csv
import json
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

# 24 x 30 cm on 373 x 454 pixels: the size of a usual cassette. FracAtlas does not say the true one.
NOMINAL_SPACING_MM = ("0.65", "0.65")
LARGEST_12_BIT = 4095


@dataclass(frozen=True, slots=True)
class Sample:
    """One study: what is taken from the collection, and the kind of header that it gets.

    `bare` leaves out what many real CR lack: window, pixel spacing and patient orientation.
    """

    name: str
    images: tuple[str, ...]
    kind: str
    body_part: str
    region: Code
    laterality: str
    views: tuple[str, ...]
    transfer_syntax: UID = ExplicitVRLittleEndian
    inverted: bool = False
    bare: bool = False


SCT = codes.SCT
SAMPLES = (
    Sample("01-hand-positive-cr", ("IMG0003926",), "CR", "HAND", SCT.Hand, "L", ("PA",), bare=True),
    Sample("02-hand-negative-dx", ("IMG0003764",), "DX", "HAND", SCT.Hand, "R", ("PA",)),
    Sample("03-wrist-positive-dx", ("IMG0003785",), "DX", "WRIST", SCT.WristJoint, "R", ("PA",), JPEGLSLossless),
    Sample(
        "04-leg-positive-two-images-dx",
        ("IMG0003924", "IMG0003925"),
        "DX",
        "LEG",
        SCT.LowerLeg,
        "R",
        ("AP", "LL"),
        JPEG2000Lossless,
    ),
    Sample("05-ankle-negative-cr", ("IMG0003735",), "CR", "ANKLE", SCT.AnkleJoint, "L", ("AP",)),
    Sample("06-foot-negative-sc", ("IMG0003741",), "SC", "FOOT", SCT.Foot, "L", ("LL",), RLELossless),
    Sample("07-hip-positive-monochrome1-dx", ("IMG0003892",), "DX", "HIP", SCT.Hip, "B", ("AP",), inverted=True),
    Sample("08-hip-negative-cr", ("IMG0003913",), "CR", "HIP", SCT.Hip, "B", ("AP",), JPEG2000Lossless),
    Sample(
        "09-shoulder-positive-dx",
        ("IMG0004337",),
        "DX",
        "SHOULDER",
        SCT.Shoulder,
        "L",
        ("AP",),
        ImplicitVRLittleEndian,
    ),
    Sample("10-shoulder-negative-cr", ("IMG0003836",), "CR", "SHOULDER", SCT.Shoulder, "L", ("AP",)),
)
CLASSES = {
    "CR": ComputedRadiographyImageStorage,
    "DX": DigitalXRayImageStorageForPresentation,
    "SC": SecondaryCaptureImageStorage,
}
MODALITIES = {"CR": "CR", "DX": "DX", "SC": "RG"}  # the secondary capture stands for a digitised film
VIEWS = {"AP": SCT.AnteroPosterior, "PA": SCT.PosteroAnterior, "LL": SCT.LateralProjection}


@dataclass(frozen=True, slots=True)
class Labelled:
    """One image of the collection: its pixels, what its authors say of it, and how strongly JPEG had squeezed it."""

    pixels: NDArray[np.uint8]
    fractured: bool
    boxes_xyxy: tuple[tuple[float, float, float, float], ...]
    compression_ratio: float


def stable_uid(*words: str) -> str:
    """Return the UID that belongs to these words, derived from a UUID (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, '/'.join(('bonewatch:sample', *words))).int}"


def read_labelled(data: Path, name: str) -> Labelled:
    """Return one image of the validation block; boxes in pixels from its top left corner."""
    file_name = f"{name}.jpg"
    with (data / "labels.csv").open(newline="") as stream:
        row = next(row for row in csv.DictReader(stream) if row["file_name"] == file_name)
    if row["split"] != "valid" or row["truncated"] != "0":
        raise SystemExit(f"{file_name} is not a complete image of the validation block")
    coco = json.loads((data / "boxes_valid.json").read_text())
    number = next(image["id"] for image in coco["images"] if image["file_name"] == file_name)
    bounds = [annotation["bbox"] for annotation in coco["annotations"] if annotation["image_id"] == number]
    path = data / "images" / file_name
    pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise SystemExit(f"cannot read {path}")
    return Labelled(
        pixels=pixels.astype(np.uint8),
        fractured=row["fractured"] == "1",
        boxes_xyxy=tuple((x, y, x + width, y + height) for x, y, width, height in bounds),
        compression_ratio=pixels.size / path.stat().st_size,
    )


def build_instance(sample: Sample, number: int, labelled: Labelled) -> Dataset:
    """Return the data set of one image of a study; `number` counts the images from 1."""
    ds = Dataset()
    add_patient_and_study(ds, sample)
    add_series_and_image(ds, sample, number, labelled)
    add_pixels(ds, sample, labelled.pixels)
    if sample.kind == "DX":
        add_dx(ds, sample, number)
    if sample.kind == "SC":
        ds.ConversionType = "DF"
    if sample.kind == "CR" and not sample.bare:
        ds.ImagerPixelSpacing = list(NOMINAL_SPACING_MM)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = (
        sample.transfer_syntax if not sample.transfer_syntax.is_compressed else ExplicitVRLittleEndian
    )
    if sample.transfer_syntax.is_compressed:
        ds.compress(sample.transfer_syntax, generate_instance_uid=False)
    return ds


def add_patient_and_study(ds: Dataset, sample: Sample) -> None:
    """Add the invented patient and the study (PS3.3 C.7.1, C.7.2)."""
    number = sample.name[:2]
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName = f"SAMPLE^{sample.body_part}"
    ds.PatientID = f"BONEWATCH-SAMPLE-{number}"
    ds.PatientBirthDate = "19700101"
    ds.PatientSex = "O"
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = "Published without identity; this patient is invented"
    ds.StudyInstanceUID = stable_uid(sample.name)
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20240301"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = f"09{number}00"
    ds.AccessionNumber = f"BWSAMPLE{number}"
    ds.ReferringPhysicianName = ""
    ds.StudyID = number
    ds.StudyDescription = f"Sample {sample.body_part.lower()}"


def add_series_and_image(ds: Dataset, sample: Sample, number: int, labelled: Labelled) -> None:
    """Add series, equipment and general image attributes (PS3.3 C.7.3, C.7.5, C.7.6.1).

    FracAtlas is published as JPEG, so the image says that it is derived and was lossy compressed once
    (PS3.3 C.7.6.1.1.5), however it is stored now.
    """
    ds.SOPClassUID = CLASSES[sample.kind]
    ds.SOPInstanceUID = stable_uid(sample.name, str(number))
    ds.SeriesInstanceUID = stable_uid(sample.name, "series")
    ds.Modality = MODALITIES[sample.kind]
    ds.SeriesNumber = 1
    ds.InstanceNumber = number
    ds.Manufacturer = "bonewatch samples"
    ds.ImageType = ["DERIVED", "SECONDARY"] if sample.kind == "SC" else ["DERIVED", "PRIMARY"]
    ds.BodyPartExamined = sample.body_part
    ds.PatientOrientation = "" if sample.bare or sample.kind == "SC" else ["L", "F"]
    if sample.kind != "DX":
        ds.Laterality = sample.laterality if sample.laterality in {"L", "R"} else ""
    if sample.kind != "SC":
        ds.ViewPosition = sample.views[number - 1]
    ds.LossyImageCompression = "01"
    ds.LossyImageCompressionMethod = "ISO_10918_1"
    ds.LossyImageCompressionRatio = f"{labelled.compression_ratio:.1f}"
    ds.BurnedInAnnotation = "NO"
    ds.DerivationDescription = f"FracAtlas {sample.images[number - 1]} (CC BY 4.0), made DICOM by bonewatch"


def add_pixels(ds: Dataset, sample: Sample, pixels: NDArray[np.uint8]) -> None:
    """Add the Image Pixel module (PS3.3 C.7.6.3): 12 bits for CR and DX, the collection's own 8 for the capture."""
    deep = sample.kind != "SC"
    stored = np.round(pixels.astype(np.float64) * LARGEST_12_BIT / 255).astype(np.uint16) if deep else pixels
    if sample.inverted:
        stored = LARGEST_12_BIT - stored
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME1" if sample.inverted else "MONOCHROME2"
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = (16, 12, 11) if deep else (8, 8, 7)
    ds.PixelRepresentation = 0
    data = stored.astype("<u2" if deep else "u1").tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OW" if deep else "OB"
    if deep and not sample.bare:
        ds.WindowCenter, ds.WindowWidth = 2048, 4096


def add_dx(ds: Dataset, sample: Sample, number: int) -> None:
    """Add what a DX image for presentation has beyond a CR (PS3.3 A.26, C.8.11)."""
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.ImageType = ["DERIVED", "PRIMARY", ""]
    ds.ImageLaterality = sample.laterality
    ds.AnatomicRegionSequence = Sequence([code_item(sample.region)])
    ds.ViewCodeSequence = Sequence([code_item(VIEWS[sample.views[number - 1]])])
    ds.ViewCodeSequence[0].ViewModifierCodeSequence = Sequence()
    ds.AcquisitionContextSequence = Sequence()
    ds.PositionerType = ""
    ds.ImagerPixelSpacing = list(NOMINAL_SPACING_MM)
    ds.DetectorType = "STORAGE"
    ds.PixelIntensityRelationship = "LOG"
    ds.PixelIntensityRelationshipSign = 1 if sample.inverted else -1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "US"
    ds.PresentationLUTShape = "INVERSE" if sample.inverted else "IDENTITY"


def code_item(code: Code) -> Dataset:
    """Return a code as an item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def make_samples(data: Path, samples: Path) -> list[dict[str, str]]:
    """Write every sample study and return the rows of truth.csv, one an image."""
    rows = []
    for sample in SAMPLES:
        folder = samples / sample.name
        folder.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(sample.images, start=1):
            labelled = read_labelled(data, name)
            ds = build_instance(sample, number, labelled)
            path = folder / f"image-{number}.dcm"
            ds.save_as(path, enforce_file_format=True)
            rows.append(
                {
                    "path": f"{sample.name}/{path.name}",
                    "study_instance_uid": ds.StudyInstanceUID,
                    "sop_instance_uid": ds.SOPInstanceUID,
                    "source_image": f"{name}.jpg",
                    "fractured": str(int(labelled.fractured)),
                    "boxes_xyxy": ";".join(" ".join(f"{v:.2f}" for v in box) for box in labelled.boxes_xyxy),
                }
            )
    return rows


def main() -> None:
    """Read the two folders from the command line and write studies and truth."""
    if len(sys.argv) not in {2, 3}:
        raise SystemExit("usage: python deploy/make_samples.py DATA [SAMPLES]")
    samples = Path(sys.argv[2]) if len(sys.argv) == 3 else Path(__file__).parent / "samples"
    rows = make_samples(Path(sys.argv[1]), samples)
    with (samples / "truth.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} images of {len(SAMPLES)} studies in {samples}")


if __name__ == "__main__":
    main()
