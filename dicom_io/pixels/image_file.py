"""An image's file: its data set, read from memory, and what it declares of its pixels, checked and put right."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom import DataElement, dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from dicom_io.errors import DicomError, HeaderError, PixelDataMissing, PixelsTooLarge
from dicom_io.header.attributes import number
from dicom_io.header.header import inflate, read_file_meta
from dicom_io.pixels.frame_decoding import find_decoder
from dicom_io.pixels.limits import PixelLayout, PixelLimits, check_native_length, read_layout


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A data set whose Image Pixel module is `layout`, in the standard's spelling, and the decoder for its pixels."""

    ds: Dataset
    layout: PixelLayout
    decoder: Decoder


def read_image_file(path: Path, limits: PixelLimits) -> ImageFile:
    """Read an image's file, and check what it declares against the limits before a pixel is decoded.

    Raises
    ------
    HeaderError
        When the file is not DICOM or cannot be parsed.
    PixelError
        The subclass says why there is no image.
    OSError
        When the file cannot be opened.
    """
    ds = _read_data_set(path, limits)
    with parsing():
        if "PixelData" not in ds:
            raise PixelDataMissing("the data set has no pixel data; it is no image, or the file was cut short")
        layout = read_layout(ds, limits)
        decoder = find_decoder(ds.file_meta.TransferSyntaxUID)
        _write_layout(ds, layout, is_native=decoder.is_native)
        if decoder.is_native:
            check_native_length(layout, len(ds.PixelData or b""))
        return ImageFile(ds, layout, decoder)


@contextmanager
def parsing() -> Iterator[None]:
    """Turn whatever a library raises on one image's bytes into HeaderError, so that it ends that image alone.

    pydicom has no error of its own for most of it, and raises anything. The text can quote a value, so neither it nor
    the chain goes on: it might be a patient's. For the same reason pydicom's warnings stay here.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DicomError:
        raise
    except Exception as error:  # noqa: BLE001 - see above; no file and no network is touched within
        raise HeaderError(f"the data set cannot be parsed ({type(error).__name__})") from None


def _read_data_set(path: Path, limits: PixelLimits) -> Dataset:
    if path.stat().st_size > limits.maximum_total_bytes:
        raise PixelsTooLarge(f"the file is larger than {limits.maximum_total_bytes} bytes")
    # From memory, because reading a file allocates first whatever length an element claims
    stream = io.BytesIO(path.read_bytes())
    transfer_syntax = UID(read_file_meta(stream))
    with parsing():
        if transfer_syntax != DeflatedExplicitVRLittleEndian:
            stream.seek(0)
            return dcmread(stream)
        # pydicom inflates without a bound
        inflated = inflate(stream, limits.maximum_total_bytes + 1)
        if inflated.seek(0, io.SEEK_END) > limits.maximum_total_bytes:
            raise PixelsTooLarge(f"the data set inflates to more than {limits.maximum_total_bytes} bytes")
        inflated.seek(0)
        ds = read_dataset(inflated, is_implicit_VR=False, is_little_endian=True)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = transfer_syntax
        return ds


def _write_layout(ds: Dataset, layout: PixelLayout, *, is_native: bool) -> None:
    """Put what was read into the data set, in the standard's spelling and value representation, for the decoders."""
    for keyword, vr, value in (
        ("SamplesPerPixel", "US", layout.samples),
        ("PhotometricInterpretation", "CS", layout.photometric),
        ("PlanarConfiguration", "US", int(number(ds, "PlanarConfiguration") or 0)),
        ("NumberOfFrames", "IS", layout.frames),
        ("Rows", "US", layout.rows),
        ("Columns", "US", layout.columns),
        ("BitsAllocated", "US", layout.bits_allocated),
        ("BitsStored", "US", layout.bits_stored),
        ("HighBit", "US", layout.high_bit),
        ("PixelRepresentation", "US", int(layout.signed)),
    ):
        ds[keyword] = DataElement(keyword, vr, value)
    pixels = ds.get_item("PixelData")
    if not isinstance(pixels.value, bytes):
        raise PixelDataMissing("Pixel Data has a value representation that holds no pixels")
    if pixels.VR not in ("OB", "OW"):
        ds["PixelData"] = DataElement(
            "PixelData", "OW" if is_native and layout.bits_allocated > 8 else "OB", pixels.value
        )
