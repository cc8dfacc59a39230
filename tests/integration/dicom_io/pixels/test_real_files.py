"""Every file that pydicom and pydicom-data carry becomes an array or gets a typed reason."""

import hashlib
import os
import re
import resource
import shutil
import subprocess
import sys
from collections import Counter
from importlib import resources
from pathlib import Path

import data_store
import numpy as np
import pydicom
import pytest
from pydicom.uid import UID, JPEGLosslessSV1

from dicom_io.errors import DicomError, HeaderError, PixelDataDamaged, PixelDataTruncated
from dicom_io.header.header import read_file_meta
from dicom_io.pixels.frames import read_frames
from tests.product import ROOT

ROOTS = (Path(str(resources.files(pydicom))) / "data", Path(str(resources.files(data_store))) / "data")

# At least so many arrays by transfer syntax: pydicom 3.0 and pydicom-data 1.0 hold them
ARRAYS = {
    "Implicit VR Little Endian": 3,
    "Explicit VR Little Endian": 83,
    "Explicit VR Big Endian": 12,
    "Deflated Explicit VR Little Endian": 1,
    "JPEG Baseline (Process 1)": 15,
    "JPEG Extended (Process 2 and 4)": 2,
    UID(JPEGLosslessSV1).name: 4,
    "JPEG-LS Lossless Image Compression": 2,
    "JPEG-LS Lossy (Near-Lossless) Image Compression": 4,
    "JPEG 2000 Image Compression (Lossless Only)": 11,
    "JPEG 2000 Image Compression": 7,
    "RLE Lossless": 8,
}


def real_files():
    found = [path for root in ROOTS for path in sorted(root.rglob("*")) if path.is_file()]
    return [path for path in found if path.suffix not in {".py", ".pyc", ".json", ".md", ".txt"}]


def real_file(name):
    return next(path for path in real_files() if path.name == name)


def transfer_syntax_name(path):
    try:
        with path.open("rb") as stream:
            return UID(read_file_meta(stream)).name
    except HeaderError:
        return "(not a DICOM file)"


def outcome(path):
    """Return what becomes of a file; only our own errors are expected, all others fail the test."""
    try:
        for frame in read_frames(path):
            assert frame.pixels.dtype == np.float32
            assert frame.pixels.ndim == 2
            assert frame.pixels.min() >= 0
            assert frame.pixels.max() <= 1
    except DicomError as error:
        return type(error).__name__ if re.fullmatch(r".+", str(error)) else "no reason of one line"
    return "array"


def test_every_real_file_becomes_an_array_or_gets_a_typed_reason():
    counts = Counter((transfer_syntax_name(path), outcome(path)) for path in real_files())

    print(f"\n{'transfer syntax':90}{'outcome':20} files")  # noqa: T201 - the table is meant to be seen
    for (syntax, result), number in sorted(counts.items()):
        print(f"{syntax:90}{result:20} {number:5}")  # noqa: T201
        assert result != "no reason of one line", syntax
    assert sum(counts.values()) >= 250
    for syntax, minimum in ARRAYS.items():
        assert counts[syntax, "array"] >= minimum, syntax


@pytest.mark.peer
@pytest.mark.parametrize("name", ["JPGExtended.dcm", "JPEG-lossy.dcm"])
def test_twelve_bit_extended_jpeg_gives_what_dcmtk_gives(name, tmp_path):
    ours = next(read_frames(real_file(name))).pixels

    assert np.abs(ours - decoded_by_dcmtk(real_file(name), tmp_path)).max() < 1e-6


@pytest.mark.peer
@pytest.mark.parametrize("name", ["RG1_UNCR.dcm", "RG3_UNCR.dcm", "MR2_UNCR.dcm"])
def test_a_radiograph_that_dcmtk_wrote_as_twelve_bit_extended_jpeg(name, tmp_path):
    compressed = tmp_path / "extended.dcm"
    subprocess.run([needed("dcmcjpeg"), "+ee", real_file(name), compressed], check=True, capture_output=True)
    assert transfer_syntax_name(compressed) == "JPEG Extended (Process 2 and 4)"
    ours, native = (next(read_frames(path)).pixels for path in (compressed, real_file(name)))

    # The decoders round their cosines differently by a grey level of 4,096 here and there
    assert np.abs(ours - decoded_by_dcmtk(compressed, tmp_path)).mean() < 1 / 4096
    assert np.corrcoef(ours.ravel(), native.ravel())[0, 1] > 0.99


@pytest.mark.peer
@pytest.mark.parametrize("predictor", range(1, 8))
def test_every_predictor_of_jpeg_lossless_gives_the_native_pixels(predictor, tmp_path):
    compressed = tmp_path / "lossless.dcm"
    options = ["+el", "+sv", str(predictor)]
    subprocess.run([needed("dcmcjpeg"), *options, real_file("RG3_UNCR.dcm"), compressed], check=True)

    assert (next(read_frames(compressed)).pixels == next(read_frames(real_file("RG3_UNCR.dcm"))).pixels).all()


def needed(program):
    return shutil.which(program) or pytest.skip(f"{program} is not installed (make peers)")


def decoded_by_dcmtk(path, folder):
    native = folder / "native.dcm"
    subprocess.run([needed("dcmdjpeg"), path, native], check=True, capture_output=True)
    return next(read_frames(native)).pixels


@pytest.mark.parametrize("name", ["RG1", "RG3"])
def test_a_radiograph_is_the_same_in_every_lossless_encoding(name):
    native = next(read_frames(real_file(f"{name}_UNCR.dcm"))).pixels

    assert (next(read_frames(real_file(f"{name}_J2KR.dcm"))).pixels == native).all()


def test_bone_is_brighter_than_air_in_a_real_monochrome1_leg():
    pixels = next(read_frames(real_file("RG3_UNCR.dcm"))).pixels
    rows, columns = pixels.shape

    bone = pixels[rows // 4 : rows // 2, int(columns * 0.47) : int(columns * 0.52)]
    air = pixels[rows // 4 : rows // 2, int(columns * 0.30) : int(columns * 0.33)]

    assert bone.mean() > air.mean() + 0.3


@pytest.mark.peer
def test_jpeg_lossless_gives_what_dcmtk_gives(tmp_path):
    ours = next(read_frames(real_file("JPEG-LL.dcm"))).pixels

    assert (ours == decoded_by_dcmtk(real_file("JPEG-LL.dcm"), tmp_path)).all()


def test_damaged_files_give_typed_reasons_within_bounds_of_time_and_memory(tmp_path):
    # In a process of its own: what this looks for would otherwise end the tests instead of failing one
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for seed in range(4):
        answer = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("damage.py")), str(seed), str(tmp_path)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30)),
        )
        assert answer.returncode == 0, answer.stderr[-2000:]


@pytest.mark.parametrize("filling", [bytes(32), hashlib.sha256(b"noise").digest()], ids=["zeros", "noise"])
@pytest.mark.parametrize("name", ["JPEG-LL.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm", "JPGExtended.dcm"])
def test_a_frame_that_is_overwritten_in_part_is_not_taken(name, filling, tmp_path):
    content = bytearray(real_file(name).read_bytes())
    middle = (content.index(b"\xff\xda") + len(content)) // 2
    content[middle : middle + 640] = filling * 20
    path = tmp_path / "damaged.dcm"
    path.write_bytes(content)

    with pytest.raises((PixelDataDamaged, PixelDataTruncated), match="frame 1"):
        next(read_frames(path))
