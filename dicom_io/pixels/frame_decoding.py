"""One frame decoded: its bytes found, checked to be the whole image, and given to a decoder (PS3.5 8.2, Annex A).

Decoders fill up with grey or noise what is damaged and mostly say nothing, and an image without its fracture is normal.
So what is compressed is read twice: the checks of `codestream`, `jpeg_entropy` and `run_length` say whether the bytes
are a whole image, then imagecodecs decodes them (libjpeg-turbo, CharLS, OpenJPEG).

Decoders are C and C++ code, and their input comes from outside. What a frame declares for itself is held against the
header before any of them sees it. Should one crash all the same, the caller's process ends: whoever calls this in a
service must have written down *before* the call that the job was tried, and give up after a few tries.
"""

from __future__ import annotations

import io
import re
import struct
import warnings

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments, get_frame, parse_basic_offsets
from pydicom.errors import InvalidDicomError
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    RLELossless,
)

from dicom_io.errors import PixelDataDamaged, PixelDataTruncated, PixelsUndecodable
from dicom_io.pixels.codestream import (
    DamagedCodestream,
    UnendedCodestream,
    jpeg2000_size,
    jpeg_size,
    whole_jpeg,
    whole_jpeg2000,
)
from dicom_io.pixels.jpeg2000_coefficients import decode_jpeg2000
from dicom_io.pixels.jpeg_entropy import check_jpeg
from dicom_io.pixels.limits import PixelLayout
from dicom_io.pixels.run_length import decode_run_length

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
_DECODED_TO_RGB = frozenset({"YBR_ICT", "YBR_RCT"})
_SIGNATURES = (b"\xff\xd8", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ")
"""What a frame's first fragment begins with: a JPEG or JPEG-LS, a JPEG 2000 codestream, or the JP2 format around it."""


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
        Photometric interpretation: JPEG 2000 turns YBR into RGB.

    Raises
    ------
    PixelDataTruncated, PixelDataDamaged, PixelsUndecodable
        When the frame is not whole, is not what the header says, or no decoder can read it.
    """
    if decoder.is_native:
        return _decode_native(decoder, ds, layout, index)
    syntax = decoder.UID
    words = f"{transfer_syntax_text(syntax)}: frame {index + 1}"
    frame = _frame_bytes(ds, layout, index, words)
    try:
        if syntax == RLELossless:
            array = decode_run_length(frame, layout)
        else:
            array = _decode_codestream(_checked_codestream(syntax, frame, layout, words), syntax, layout)
    except UnendedCodestream as error:
        raise PixelDataTruncated(f"{words} ends before its end marker") from error
    except DamagedCodestream as error:
        raise PixelDataDamaged(f"{words} is damaged: {error}") from error
    except MALFORMED as error:  # imagecodecs has an error of its own for each codec, all of them RuntimeErrors
        raise PixelsUndecodable(f"{transfer_syntax_text(syntax)}: no decoder could read frame {index + 1}") from error
    if array.shape != (layout.rows, layout.columns, layout.samples)[: 2 if layout.samples == 1 else 3]:
        raise PixelsUndecodable(f"{words} decodes to another size than the header says")
    photometric = "RGB" if layout.photometric in _DECODED_TO_RGB else layout.photometric
    return array, photometric


def transfer_syntax_text(uid: str) -> str:
    """Return a transfer syntax's name and UID in words that are safe in a message, whatever a file calls it."""
    if not re.fullmatch(r"[0-9.]{1,64}", uid):
        return "a malformed transfer syntax UID"
    name = UID(uid).name
    return f"transfer syntax {uid}" if name == uid else f"{name} ({uid})"


def has_own_precision(transfer_syntax: UID) -> bool:
    """Tell the encodings whose decoders deliver samples of the codestream's precision rather than words."""
    return bool(transfer_syntax.is_encapsulated) and transfer_syntax != RLELossless


def _decode_native(decoder: Decoder, ds: Dataset, layout: PixelLayout, index: int) -> tuple[NDArray[np.integer], str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array, properties = decoder.as_array(
                ds,
                index=index,
                raw=True,
                allow_excess_frames=False,
                correct_unused_bits=False,  # they are looked at afterwards, with regard to HighBit (stored_bits)
            )
    except MALFORMED as error:
        raise PixelsUndecodable(f"{transfer_syntax_text(decoder.UID)}: frame {index + 1} cannot be read") from error
    return array, str(properties["photometric_interpretation"])


def _frame_bytes(ds: Dataset, layout: PixelLayout, index: int, words: str) -> bytes:
    """Return the bytes of a frame, which may lie in several fragments (PS3.5 A.4).

    Where each codestream can be seen to begin is where it begins; the offset tables, which are optional and often
    wrong, are asked where that does not tell.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            buffer = io.BytesIO(ds.PixelData)
            parse_basic_offsets(buffer)
            fragments = list(generate_fragments(buffer))
            starts = [number for number, each in enumerate(fragments) if each.startswith(_SIGNATURES)]
            if len(starts) > layout.frames:
                raise PixelsUndecodable(f"{words}: {len(starts)} images are there, {layout.frames} are declared")
            if len(starts) == layout.frames:
                return b"".join(fragments[starts[index] : [*starts, len(fragments)][index + 1]])
            lengths = ds.get("ExtendedOffsetTableLengths")
            offsets = (ds.ExtendedOffsetTable, lengths) if lengths and "ExtendedOffsetTable" in ds else None
            frame: bytes = get_frame(ds.PixelData, index, number_of_frames=layout.frames, extended_offsets=offsets)
            return frame
    except MALFORMED as error:
        raise PixelDataTruncated(f"{words} of {layout.frames} is not there") from error


def _checked_codestream(transfer_syntax: UID, frame: bytes, layout: PixelLayout, words: str) -> bytes:
    """Return a frame's codestream if it is the whole image that the header declares."""
    is_jpeg2000 = transfer_syntax in JPEG2000TransferSyntaxes
    size = (jpeg2000_size if is_jpeg2000 else jpeg_size)(frame)
    if size is None:
        raise PixelsUndecodable(f"{words} does not begin as such a codestream")
    if (size.rows, size.columns, size.samples) != (layout.rows, layout.columns, layout.samples):
        raise PixelsUndecodable(
            f"{words} is {size.rows} x {size.columns} with {size.samples} samples, the header says "
            f"{layout.rows} x {layout.columns} with {layout.samples}"
        )
    if size.precision > layout.bits_allocated or size.retired:
        raise PixelsUndecodable(f"{words} is of a kind that DICOM does not use for such an image")
    if is_jpeg2000:
        return whole_jpeg2000(frame)
    is_jpeg_ls = transfer_syntax in JPEGLSTransferSyntaxes
    codestream = whole_jpeg(frame, jpeg_ls=is_jpeg_ls)
    if not is_jpeg_ls:
        check_jpeg(codestream)
    return codestream


def _decode_codestream(codestream: bytes, transfer_syntax: UID, layout: PixelLayout) -> NDArray[np.integer]:
    if transfer_syntax in JPEG2000TransferSyntaxes:
        return decode_jpeg2000(codestream)
    if transfer_syntax in JPEGLSTransferSyntaxes:
        return imagecodecs.jpegls_decode(codestream)
    # The samples as they are: which colours they are, the header says
    colours = None if layout.samples == 1 else "YCBCR"
    samples = imagecodecs.jpeg8_decode(codestream, colorspace=colours, outcolorspace=colours)
    size = jpeg_size(codestream)
    if size is not None:  # `_checked_codestream` has seen one
        check_range(samples, size.precision)
    return samples


def check_range(samples: NDArray[np.integer], precision: int) -> None:
    """Check that samples, of any shape, have no more bits than the frame header says, with a sign or without one.

    In a damaged lossless codestream codes may get lost while others come up elsewhere, so that every code is sound. But
    predictions add up, and the samples leave the range of their precision, which no encoder writes.

    Raises
    ------
    DamagedCodestream
        When they have (ISO/IEC 10918-1 B.2.2, H.1.2.1).
    """
    signed = samples.view(f"i{samples.itemsize}")
    lowest, highest = (int(signed.min()), int(signed.max())) if signed.size else (0, 0)
    if precision >= 8 * samples.itemsize or (lowest >= 0 and highest < 1 << precision):
        return
    if lowest < -(1 << precision - 1) or highest >= 1 << precision - 1:
        raise DamagedCodestream("it has samples beyond its precision")
