import numpy as np
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from dicom_io.errors import (
    HeaderError,
    PixelDataMissing,
    PixelDataTruncated,
    PixelModuleInvalid,
    PixelsBlank,
    PixelsTooLarge,
    PixelsUndecodable,
)
from dicom_io.pixels.frame_decoding import transfer_syntax_text
from dicom_io.pixels.frames import read_frames
from dicom_io.pixels.limits import PixelLimits
from tests.builders import build_cr, build_radiograph, build_sc, part10_bytes, ramp, write_part10

# OpenJPEG encodes nothing smaller than its six resolutions
LARGE = ramp(64, 96)
FULL_WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}


@pytest.mark.parametrize("transfer_syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_native_encodings_give_the_same_brightness(read, transfer_syntax):
    (frame,) = read(build_cr(**FULL_WINDOW, transfer_syntax=transfer_syntax))

    assert frame.pixels.dtype == np.float32
    assert frame.pixels == pytest.approx(ramp() / 4095, abs=1e-6)


def test_big_endian_pixels_are_swapped(read):
    ds = build_cr(**FULL_WINDOW, transfer_syntax=ExplicitVRBigEndian)
    ds.PixelData = ramp().astype(">u2").tobytes()

    (frame,) = read(ds)

    assert frame.pixels == pytest.approx(ramp() / 4095, abs=1e-6)


@pytest.mark.parametrize("transfer_syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
@pytest.mark.parametrize("lowest", [0, -2048])
def test_lossless_encodings_give_the_same_brightness(read, transfer_syntax, lowest):
    pixels = LARGE.astype(np.int32) + lowest
    ds = build_cr(pixels=pixels.astype(np.int16 if lowest else np.uint16), RescaleIntercept=-lowest, **FULL_WINDOW)
    ds.RescaleSlope = 1
    ds.compress(transfer_syntax, generate_instance_uid=False)

    (frame,) = read(ds)

    assert frame.pixels == pytest.approx(LARGE / 4095, abs=1e-6)


def test_eight_bit_pixels_are_read(read):
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)

    (frame,) = read(build_sc(pixels=pixels, WindowCenter=128, WindowWidth=256))

    assert frame.pixels == pytest.approx(pixels / 255, abs=1e-6)


def test_overlay_bits_above_the_stored_ones_are_ignored(read):
    (frame,) = read(build_cr(pixels=ramp() | 0xA000, **FULL_WINDOW))

    assert frame.pixels == pytest.approx(ramp() / 4095, abs=1e-6)


def test_bits_below_the_stored_ones_are_ignored(read):
    (frame,) = read(build_cr(pixels=(ramp() << 4) | 0x5, HighBit=15, **FULL_WINDOW))

    assert frame.pixels == pytest.approx(ramp() / 4095, abs=1e-6)


def test_signed_pixels_carry_their_sign_within_the_stored_bits(read):
    stored = (ramp().astype(np.int16) - 2048) & 0x0FFF  # twelve bits of two's complement, zeros above them

    (frame,) = read(build_cr(pixels=stored.astype(np.int16), WindowCenter=0, WindowWidth=4096))

    assert frame.pixels == pytest.approx(ramp() / 4095, abs=1e-6)


def test_monochrome1_and_inverse_together_are_inverted_once(read):
    ds = build_radiograph("DX", pixels=4095 - ramp(), PhotometricInterpretation="MONOCHROME1")
    ds.PresentationLUTShape = "INVERSE"

    (frame,) = read(ds)

    assert frame.pixels == pytest.approx(ramp() / 4095, abs=1e-6)


def test_overlay_planes_are_ignored(read):
    ds = build_cr(**FULL_WINDOW)
    ds.add_new(0x60000010, "US", 24)
    ds.add_new(0x60000011, "US", 32)
    ds.add_new(0x60003000, "OW", b"\xff" * 96)

    (frame,) = read(ds)

    assert frame.pixels == pytest.approx(ramp() / 4095, abs=1e-6)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_background_and_not_counted_in_the_percentiles(read, photometric):
    pixels = np.full((20, 20), 4000, dtype=np.uint16)
    pixels[:10] = np.arange(200).reshape(10, 20) + 100
    ds = build_cr(pixels=pixels, PixelPaddingValue=4000, PhotometricInterpretation=photometric)

    (frame,) = read(ds)

    expected = np.arange(200) / 199  # 200 values of one pixel each: none is rare enough to be left out
    expected = 1 - expected if photometric == "MONOCHROME1" else expected
    assert frame.pixels[:10].ravel() == pytest.approx(expected, abs=1e-6)
    assert (frame.pixels[10:] == 0).all()


def test_every_frame_is_numbered_and_windowed(read):
    pixels = np.stack([ramp(), 4095 - ramp()])

    frames = read(build_sc(pixels=pixels, **FULL_WINDOW))

    assert [frame.number for frame in frames] == [1, 2]
    assert frames[1].pixels == pytest.approx(1 - ramp() / 4095, abs=1e-6)


def test_compressed_frames_are_read_one_by_one(read):
    ds = build_sc(pixels=np.stack([LARGE, 4095 - LARGE]), **FULL_WINDOW)
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)

    frames = read(ds)

    assert frames[1].pixels == pytest.approx(1 - LARGE / 4095, abs=1e-6)


def colour(photometric, samples, **overrides):
    ds = build_sc(pixels=np.zeros((2, 2), dtype=np.uint8), PhotometricInterpretation=photometric, **overrides)
    ds.SamplesPerPixel, ds.PlanarConfiguration = 3, 0
    ds.PixelData = bytes(samples)
    return ds


def test_rgb_becomes_its_luma(read):
    (frame,) = read(colour("RGB", [255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255]))

    assert frame.pixels.ravel() == pytest.approx([0.299, 0.587, 0.114, 1], abs=1e-6)


def test_planes_of_colour_are_put_together(read):
    ds = colour("RGB", [255, 0, 0, 0, 0, 255, 0, 0, 0, 0, 255, 0])
    ds.PlanarConfiguration = 1

    (frame,) = read(ds)

    assert frame.pixels.ravel() == pytest.approx([0.299, 0.587, 0.114, 0], abs=1e-6)


def test_ybr_becomes_its_luma(read):
    (frame,) = read(colour("YBR_FULL", [0, 1, 2, 51, 3, 4, 102, 5, 6, 255, 7, 8]))

    assert frame.pixels.ravel() == pytest.approx([0, 0.2, 0.4, 1], abs=1e-6)


def test_a_palette_becomes_its_luma(read):
    ds = build_sc(pixels=np.array([[0, 1], [2, 3]], dtype=np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for name, entries in {"Red": [255, 0, 0, 255], "Green": [0, 255, 0, 255], "Blue": [0, 0, 255, 255]}.items():
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [4, 0, 8])
        setattr(ds, f"{name}PaletteColorLookupTableData", bytes(entries))

    (frame,) = read(ds)

    assert frame.pixels.ravel() == pytest.approx([0.299, 0.587, 0.114, 1], abs=1e-6)


def test_a_palette_without_one_of_its_tables_is_named(read):
    ds = build_sc(pixels=np.array([[0, 1], [2, 3]], dtype=np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for name in ("Red", "Green", "Blue"):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [4, 0, 8])
        setattr(ds, f"{name}PaletteColorLookupTableData", bytes(4))
    del ds.BluePaletteColorLookupTableData

    with pytest.raises(PixelModuleInvalid, match="Blue Palette Color Lookup Table Data is missing"):
        read(ds)


def test_a_palette_of_sixteen_bits_becomes_its_luma(read):
    ds = build_sc(pixels=np.array([[0, 1], [2, 3]], dtype=np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for name in ("Red", "Green", "Blue"):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [4, 0, 16])
        setattr(ds, f"{name}PaletteColorLookupTableData", np.array([0, 13107, 26214, 65535], "<u2").tobytes())

    (frame,) = read(ds)

    assert frame.pixels.ravel() == pytest.approx([0, 0.2, 0.4, 1], abs=1e-6)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, None),
        ({"ImagerPixelSpacing": [0.2, 0.1]}, (0.2, 0.1)),
        ({"ImagerPixelSpacing": [0.2, 0.1], "PixelSpacing": [0.19, 0.09]}, (0.19, 0.09)),
        ({"NominalScannedPixelSpacing": [0.3, 0.3]}, (0.3, 0.3)),
        ({"ImagerPixelSpacing": [0, 0]}, None),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.2, 0.1]}, (0.2, 0.1)),
        ({"PixelSpacing": 0.2}, None),
    ],
)
def test_spacing_is_between_rows_then_between_columns(read, attributes, expected):
    (frame,) = read(build_cr(**attributes))

    assert frame.spacing_mm == expected


def test_a_huge_declared_image_in_a_small_file_is_refused_before_decoding(read):
    ds = build_cr(Rows=46341, Columns=46341)

    with pytest.raises(PixelsTooLarge, match="46341 x 46341"):
        read(ds)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (PixelLimits(maximum_pixels_per_frame=24 * 32 - 1), "pixels a frame"),
        (PixelLimits(maximum_frames=1), "2 frames"),
        (PixelLimits(maximum_total_bytes=2 * 24 * 32 * 2 - 1), "bytes"),
    ],
)
def test_each_limit_is_enforced(read, limits, message):
    ds = build_sc(pixels=np.stack([ramp(), ramp()]))

    assert len(read(ds)) == 2
    with pytest.raises(PixelsTooLarge, match=message):
        read(ds, limits)


def test_the_declared_bytes_count_even_where_the_file_is_small(read):
    ds = build_cr()
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.NumberOfFrames = 100

    with pytest.raises(PixelsTooLarge, match="153600 bytes of pixels"):
        read(ds, PixelLimits(maximum_total_bytes=100_000))


def test_a_deflated_bomb_is_not_inflated(tmp_path):
    ds = build_cr(transfer_syntax=DeflatedExplicitVRLittleEndian)
    ds.add_new(0x70010010, "LO", "BONEWATCH TEST")
    ds.add_new(0x70011001, "OB", bytes(1_000_000))
    path = write_part10(ds, tmp_path / "bomb.dcm")

    assert path.stat().st_size < 10_000
    with pytest.raises(PixelsTooLarge, match="inflates"):
        next(read_frames(path, PixelLimits(maximum_total_bytes=500_000)))


def test_native_pixels_shorter_than_declared_are_truncated(read):
    ds = build_cr()
    ds.PixelData = ds.PixelData[:-2]

    with pytest.raises(PixelDataTruncated, match="1536 bytes of pixels are declared, 1534 are there"):
        read(ds)


@pytest.mark.parametrize("cut", [10, 100, 300, 700, 1000, 1500])
def test_a_file_that_is_cut_short_gets_a_typed_reason(tmp_path, cut):
    path = tmp_path / "cut.dcm"
    path.write_bytes(part10_bytes(build_cr())[:-cut])

    with pytest.raises((HeaderError, PixelDataTruncated)):
        next(read_frames(path))


def test_missing_frames_are_truncated(read):
    ds = build_sc(pixels=np.stack([ramp(), ramp()]))
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.NumberOfFrames = 3

    with pytest.raises(PixelDataTruncated, match=r"RLE Lossless .* frame \d of 3 is not there"):
        read(ds)


def test_a_data_set_without_pixels_says_so(read):
    with pytest.raises(PixelDataMissing):
        read(build_cr(PixelData=None))


@pytest.mark.parametrize("value", [0, 4095])
def test_an_image_of_one_shade_is_blank_rather_than_negative(read, value):
    with pytest.raises(PixelsBlank):
        read(build_cr(pixels=np.full((24, 32), value, dtype=np.uint16), **FULL_WINDOW))


def test_a_colour_image_of_one_shade_is_blank(read):
    with pytest.raises(PixelsBlank):
        read(colour("RGB", [9] * 12))


@pytest.mark.parametrize(
    "attributes",
    [
        {"Rows": None},
        {"Columns": 0},
        {"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31},
        {"BitsStored": 17},
        {"HighBit": 16},
        {"HighBit": 5},
        {"SamplesPerPixel": 3},
        {"PhotometricInterpretation": "CMYK"},
        {"PhotometricInterpretation": None},
        {"NumberOfFrames": "-1"},
    ],
)
def test_an_image_module_that_contradicts_itself_is_refused(read, attributes):
    with pytest.raises(PixelModuleInvalid):
        read(build_cr(**attributes))


def test_an_unknown_transfer_syntax_is_named(tmp_path):
    content = part10_bytes(build_cr()).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.8\0")
    path = tmp_path / "unknown.dcm"
    path.write_bytes(content)

    with pytest.raises(PixelsUndecodable, match=r"transfer syntax 1\.2\.840\.10008\.1\.2\.8 is not"):
        next(read_frames(path))


@pytest.mark.parametrize(
    "content", [b"", b"just text\n" * 100, bytes(200), bytes(128) + b"DICM", bytes(128) + b"DICMxx"]
)
def test_what_is_not_dicom_is_a_header_error(tmp_path, content):
    path = tmp_path / "text.dcm"
    path.write_bytes(content)

    with pytest.raises(HeaderError):
        next(read_frames(path))


def test_messages_carry_nothing_of_the_patient(read):
    ds = build_cr(PatientName="SECRET^NAME", PhotometricInterpretation="SECRET NAME JOHN")

    with pytest.raises(PixelModuleInvalid) as caught:
        read(ds)

    assert "SECRET" not in str(caught.value)


def test_pydicoms_own_words_do_not_go_on(tmp_path):
    # A decimal string that is a name: pydicom's error would quote it
    content = part10_bytes(build_cr(RescaleSlope="111111", RescaleIntercept=0)).replace(b"111111", b"SECRET")
    path = tmp_path / "slope.dcm"
    path.write_bytes(content)

    with pytest.raises(PixelModuleInvalid, match="Rescale Slope") as caught:
        next(read_frames(path))

    assert "SECRET" not in str(caught.value)


def test_transfer_syntax_names_are_safe_in_a_message():
    assert transfer_syntax_text("1.2.840.10008.1.2.1") == "Explicit VR Little Endian (1.2.840.10008.1.2.1)"
    assert transfer_syntax_text("1.2.3") == "transfer syntax 1.2.3"
    assert "DOE" not in transfer_syntax_text("DOE^JOHN")
