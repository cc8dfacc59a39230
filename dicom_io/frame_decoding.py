"""One frame decoded: which decoder gets it, and what is checked before and after (PS3.5 8.2, Annex A).

Decoders are C, C++ and Rust code, and their input comes from outside. Damaged files were tried on all of them:

- pydicom's own for native data and RLE (pylibjpeg-rle panics on damaged data with what no `except Exception` catches);
- Pillow (libjpeg-turbo) for JPEG baseline and extended, CharLS for JPEG-LS, OpenJPEG for JPEG 2000: they raise;
- GDCM for JPEG lossless, for which there is no other: it may end its process, so it runs in one of its own.

Should one of the others crash all the same, the caller's process ends. Whoever calls this in a service must have
written down *before* the call that the job was tried, and give up after a few tries.
"""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.errors import InvalidDicomError
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSTransferSyntaxes,
    RLELossless,
)

from dicom_io.codestream import END_MARKER, jpeg2000_size, jpeg_size
from dicom_io.errors import PixelDataTruncated, PixelsUndecodable
from dicom_io.pixel_limits import PixelLayout

# What pydicom raises on bytes that are not what they say; it has no error of its own for most of it.
MALFORMED = (
    InvalidDicomError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RuntimeError,
    MemoryError,
    struct.error,
)
_LOSSLESS_JPEG = frozenset({JPEGLossless, JPEGLosslessSV1})
_PLUGINS = (
    {JPEGBaseline8Bit: "pillow", JPEGExtended12Bit: "pillow", RLELossless: "pydicom"}
    | dict.fromkeys(JPEGLSTransferSyntaxes, "pyjpegls")
    | dict.fromkeys(JPEG2000TransferSyntaxes, "pylibjpeg")
)
# GDCM and Python need half of this themselves
_PROCESS_MEMORY_BYTES = 1 << 30
_PROCESS_SECONDS = 60


def find_decoder(transfer_syntax: UID) -> Decoder:
    """Return pydicom's decoder for a transfer syntax.

    Raises
    ------
    PixelsUndecodable
        When it is none of images.
    """
    try:
        return get_decoder(transfer_syntax)
    except NotImplementedError as error:
        words = transfer_syntax_text(transfer_syntax)
        raise PixelsUndecodable(f"{words} is not an image encoding that can be decoded here") from error


def decode_frame(decoder: Decoder, ds: Dataset, layout: PixelLayout, index: int) -> tuple[NDArray[np.integer], str]:
    """Return the words of one frame and the photometric interpretation that they have now.

    Returns
    -------
    numpy.ndarray
        Integers, shape (rows, columns) or (rows, columns, 3): whole words as decoded, whatever Bits Stored says.
    str
        Photometric interpretation: a decoder may have turned YBR into RGB.

    Raises
    ------
    PixelDataTruncated, PixelsUndecodable
        When the frame is not whole, is not what the header says, or no decoder can read it.
    """
    if decoder.is_encapsulated:
        codestream = _checked_codestream(ds, layout, index)
        if decoder.UID in _LOSSLESS_JPEG:
            samples = _decode_in_process(codestream, layout, decoder.UID, index)
            return samples, layout.photometric
    # The unused bits are looked at afterwards, with regard to HighBit (stored_bits)
    options: dict[str, Any] = {"decoding_plugin": _PLUGINS.get(decoder.UID, ""), "correct_unused_bits": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array, properties = decoder.as_array(ds, index=index, raw=True, allow_excess_frames=False, **options)
    except MALFORMED as error:
        raise _no_decoder(decoder.UID, index) from error
    return array, str(properties["photometric_interpretation"])


def transfer_syntax_text(uid: str) -> str:
    """Return a transfer syntax's name and UID in words that are safe in a message, whatever a file calls it."""
    if not re.fullmatch(r"[0-9.]{1,64}", uid):
        return "a malformed transfer syntax UID"
    name = UID(uid).name
    return f"transfer syntax {uid}" if name == uid else f"{name} ({uid})"


def _no_decoder(transfer_syntax: UID, index: int) -> PixelsUndecodable:
    return PixelsUndecodable(f"{transfer_syntax_text(transfer_syntax)}: no decoder could read frame {index + 1}")


def has_own_precision(transfer_syntax: UID) -> bool:
    """Tell the encodings whose decoders deliver samples of the codestream's precision rather than words."""
    return bool(transfer_syntax.is_encapsulated) and transfer_syntax != RLELossless


def _checked_codestream(ds: Dataset, layout: PixelLayout, index: int) -> bytes:
    """Return a frame's codestream if it is the whole image that the header declares; decoders trust it."""
    transfer_syntax = ds.file_meta.TransferSyntaxUID
    frame_words = f"{transfer_syntax_text(transfer_syntax)}: frame {index + 1}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The same table as the decoder uses, so that what is checked is what is decoded
            lengths = ds.get("ExtendedOffsetTableLengths")
            offsets = (ds.ExtendedOffsetTable, lengths) if lengths and "ExtendedOffsetTable" in ds else None
            codestream: bytes = get_frame(ds.PixelData, index, number_of_frames=layout.frames, extended_offsets=offsets)
    except MALFORMED as error:
        raise PixelDataTruncated(f"{frame_words} of {layout.frames} is not there") from error
    if transfer_syntax == RLELossless:
        return codestream
    size = (jpeg2000_size if transfer_syntax in JPEG2000TransferSyntaxes else jpeg_size)(codestream)
    if size is None:
        raise PixelsUndecodable(f"{frame_words} does not begin as such a codestream")
    if (size.rows, size.columns, size.samples) != (layout.rows, layout.columns, layout.samples):
        raise PixelsUndecodable(
            f"{frame_words} is {size.rows} x {size.columns} with {size.samples} samples, the header says "
            f"{layout.rows} x {layout.columns} with {layout.samples}"
        )
    if size.precision > layout.bits_allocated or size.progressive:
        raise PixelsUndecodable(f"{frame_words} is of a kind that DICOM does not use for such an image")
    # Decoders fill up with grey what is missing, and grey has no fracture; a byte or two of padding may follow
    if END_MARKER not in codestream[-8:]:
        raise PixelDataTruncated(f"{frame_words} ends before its end marker")
    return codestream


def _decode_in_process(codestream: bytes, layout: PixelLayout, transfer_syntax: UID, index: int) -> NDArray[np.integer]:
    """Decode a JPEG lossless frame in a process of its own, which may crash, hang or run out of memory."""
    request = {
        "transfer_syntax": str(transfer_syntax),
        "rows": layout.rows,
        "columns": layout.columns,
        "samples": layout.samples,
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_stored,
        "signed": int(layout.signed),
        "photometric": layout.photometric,
        "maximum_memory": _PROCESS_MEMORY_BYTES + 8 * layout.frame_bytes + 2 * len(codestream),
    }
    try:
        answer = subprocess.run(
            [sys.executable, "-I", str(Path(__file__).with_name("jpeg_lossless_process.py"))],
            input=json.dumps(request).encode() + b"\n" + codestream,
            capture_output=True,
            timeout=_PROCESS_SECONDS,
            check=True,
        )
    except subprocess.SubprocessError as error:
        raise _no_decoder(transfer_syntax, index) from error
    # libjpeg mends what is corrupt and only says so; what it made up is not the patient
    if len(answer.stdout) != layout.frame_bytes or b"Corrupt JPEG" in answer.stderr:
        raise _no_decoder(transfer_syntax, index)
    samples = np.frombuffer(answer.stdout, np.uint8 if layout.bits_allocated == 8 else "<u2")
    return samples.reshape((layout.rows, layout.columns, layout.samples)[: 2 if layout.samples == 1 else 3])
