"""Attributes as devices really write them: what is clear is read, what is not is left aside and named."""

import numpy as np
import pytest
from pydicom import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_io.errors import PixelModuleInvalid
from dicom_io.pixels.frames import read_displayed, read_frames, read_values_digest
from tests.builders import build_cr, part10_bytes, ramp, write_part10
from tests.unit.dicom_io.pixels.test_grayscale import lookup_item

IMAGE = ramp(64, 96)
AS_IT_IS = IMAGE / 4095
BY_PERCENTILES = AS_IT_IS  # those of a ramp are its ends, but for two steps
FULL = {"WindowCenter": "2048", "WindowWidth": "4096"}


def with_raw(ds, keyword, vr, value):
    """Put bytes that pydicom would not write into an element, by a place-holder of the same length."""
    holder = bytes([0x51 + len(keyword) % 40]) * (len(value) - 2) + b"#~"
    ds[keyword] = DataElement(keyword, "OB", holder)
    content = part10_bytes(ds)
    tag = ds[keyword].tag
    long = f"{vr}" in ("UN", "UT", "OB", "OW")
    old = (
        tag.group.to_bytes(2, "little")
        + tag.element.to_bytes(2, "little")
        + b"OB\0\0"
        + len(value).to_bytes(4, "little")
    )
    new = old[:4] + vr.encode() + (old[6:] if long else len(value).to_bytes(2, "little"))
    assert content.count(old + holder) == 1
    return content.replace(old + holder, new + value)


def frame_of(tmp_path, content):
    path = tmp_path / "image.dcm"
    path.write_bytes(content if isinstance(content, bytes) else part10_bytes(content))
    (frame,) = read_frames(path)
    return frame


@pytest.mark.parametrize(
    ("centre", "width"),
    [
        ("2048,0", "4096,0"),
        ("2048,", "4096"),
        (" 2048.0", "4,096e3"),
        ("2048,000", "4096,000"),
        ("+2.048E+03", "4096."),
    ],
)
def test_a_decimal_comma_in_a_window_is_read(tmp_path, centre, width):
    ds = build_cr(pixels=IMAGE, WindowCenter=None, WindowWidth="4096")
    ds["WindowWidth"] = DataElement("WindowWidth", "LO", width)
    ds["WindowCenter"] = DataElement("WindowCenter", "LO", centre)

    frame = frame_of(tmp_path, ds)

    np.testing.assert_allclose(frame.pixels, AS_IT_IS, atol=0.001)
    assert frame.warnings == ()


@pytest.mark.parametrize(
    "word", ["middle", "2048 HU", "NaN", "inf", "-inf", "1e999", "1.2.3", "2,048", "2.048,0", "--5", "٢٠٤٨", "\0\x01"]
)
def test_a_window_that_is_no_number_is_left_aside_for_the_next_one(tmp_path, word):
    ds = build_cr(pixels=IMAGE, WindowWidth=["100", "4096"])
    ds["WindowCenter"] = DataElement("WindowCenter", "UT", "x" * 20)
    content = with_raw(ds, "WindowCenter", "UT", (word + "\\2048").encode("utf-8").ljust(40))

    frame = frame_of(tmp_path, content)

    np.testing.assert_allclose(frame.pixels, AS_IT_IS, atol=0.001)
    assert frame.warnings == ("Window Center or Window Width 1 is not a number and was left aside",)


@pytest.mark.parametrize("width", ["0", "-400", "0.5"])
def test_a_width_that_is_not_allowed_is_left_aside_for_percentiles(tmp_path, width):
    frame = frame_of(tmp_path, build_cr(pixels=IMAGE, WindowCenter="2048", WindowWidth=width))

    np.testing.assert_allclose(frame.pixels, BY_PERCENTILES, atol=0.002)
    assert frame.warnings == ("Window Width 1 is smaller than the standard allows and was left aside",)


def test_a_window_that_shows_nothing_gives_way_to_the_next(tmp_path):
    frame = frame_of(tmp_path, build_cr(pixels=IMAGE, WindowCenter=[60000, 2048], WindowWidth=[10, 4096]))

    np.testing.assert_allclose(frame.pixels, AS_IT_IS, atol=0.001)
    assert len(frame.warnings) == 1
    assert "too little of the image between black and white" in frame.warnings[0]


def test_a_window_of_thousands_of_values_takes_no_time_and_the_first_of_them(tmp_path):
    many = "\\".join(["2048"] * 9000)
    ds = build_cr(pixels=IMAGE)
    for keyword, text in (("WindowCenter", many), ("WindowWidth", many.replace("2048", "4096"))):
        ds[keyword] = DataElement(keyword, "UT", text)

    frame = frame_of(tmp_path, ds)

    np.testing.assert_allclose(frame.pixels, AS_IT_IS, atol=0.001)


def test_a_centre_without_a_width_is_told(tmp_path):
    frame = frame_of(tmp_path, build_cr(pixels=IMAGE, WindowCenter="2048", WindowWidth=None))

    assert "Window Center has 1 values, Window Width 0" in frame.warnings[0]


@pytest.mark.parametrize(("vr", "value"), [("FD", 2048.0), ("US", 2048), ("SL", 2048), ("IS", 2048), ("UN", b"2048")])
def test_a_number_in_another_value_representation_is_read(tmp_path, vr, value):
    ds = build_cr(pixels=IMAGE, WindowWidth="4096")
    ds["WindowCenter"] = DataElement("WindowCenter", vr, value)

    frame = frame_of(tmp_path, ds)

    np.testing.assert_allclose(frame.pixels, AS_IT_IS, atol=0.001)
    assert frame.warnings == ()


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
@pytest.mark.parametrize(
    "word", ["one", "1 HU", "nan", "inf", "1e400", "1,234", "9" * 65, "1" + "0" * 5000, " " * 4095 + "12"]
)
def test_a_rescale_that_cannot_be_read_fails_with_its_name(tmp_path, keyword, word):
    ds = build_cr(pixels=IMAGE, RescaleSlope="1", RescaleIntercept="0")
    ds[keyword] = DataElement(keyword, "UT", word)

    with pytest.raises(PixelModuleInvalid, match=keyword.replace("Rescale", "Rescale ")):
        frame_of(tmp_path, ds)


@pytest.mark.parametrize(("slope", "intercept"), [("2,0", "-1000,5"), ("2,000000", "-1000,500000"), ("2", "-1000.5")])
def test_a_rescale_with_a_decimal_comma_is_read(tmp_path, slope, intercept):
    ds = build_cr(pixels=IMAGE, WindowCenter="3094.5", WindowWidth="8191")
    for keyword, text in (("RescaleSlope", slope), ("RescaleIntercept", intercept)):
        ds[keyword] = DataElement(keyword, "LO", text)

    frame = frame_of(tmp_path, ds)

    np.testing.assert_allclose(frame.pixels, AS_IT_IS, atol=0.001)


@pytest.mark.parametrize("slope", ["0", "0.0", "-0", "0,0"])
def test_a_rescale_slope_of_zero_is_as_if_there_were_no_rescale(tmp_path, slope):
    ds = build_cr(pixels=IMAGE, RescaleIntercept="500", **FULL)
    ds["RescaleSlope"] = DataElement("RescaleSlope", "LO", slope)

    frame = frame_of(tmp_path, ds)

    np.testing.assert_allclose(frame.pixels, AS_IT_IS, atol=0.001)
    assert frame.warnings == ("Rescale Slope is 0: Rescale Slope and Intercept were left aside",)


def test_an_image_that_cannot_be_displayed_still_has_its_identity(tmp_path):
    odd = build_cr(pixels=IMAGE)
    odd["RescaleSlope"] = DataElement("RescaleSlope", "LO", "one")

    paths = [write_part10(ds, tmp_path / f"{number}.dcm") for number, ds in enumerate((build_cr(pixels=IMAGE), odd))]

    assert len({read_values_digest(path) for path in paths}) == 1


def test_a_rescale_beyond_all_numbers_fails(tmp_path):
    with pytest.raises(PixelModuleInvalid, match="Rescale"):
        frame_of(tmp_path, build_cr(pixels=IMAGE, RescaleSlope="1e308", RescaleIntercept="1e308"))


def nameless():
    item = Dataset()
    item.LUTExplanation = "x"
    return item


@pytest.mark.parametrize(
    "item",
    [
        Dataset(),
        nameless(),
        lookup_item([]),
        lookup_item(np.arange(4000), count=4096),
        lookup_item(np.arange(4096), count=3000),
        lookup_item(np.arange(4096), bits=0),
    ],
    ids=["empty", "explanation only", "no data", "too short", "too long", "no bits"],
)
@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_lookup_table_that_cannot_be_used_is_left_aside(tmp_path, item, keyword):
    frame = frame_of(tmp_path, build_cr(pixels=IMAGE, **FULL, **{keyword: [item]}))

    np.testing.assert_allclose(frame.pixels, AS_IT_IS, atol=0.001)
    assert len(frame.warnings) == 1
    assert ("VOI" if keyword == "VOILUTSequence" else "Modality") in frame.warnings[0]


def test_an_unusable_lookup_table_gives_way_to_the_next_one(tmp_path):
    ds = build_cr(pixels=IMAGE, VOILUTSequence=[Dataset(), lookup_item(np.arange(4096))])

    np.testing.assert_allclose(frame_of(tmp_path, ds).pixels, AS_IT_IS, atol=0.001)


def test_a_table_too_short_only_for_values_that_no_pixel_has_is_used(tmp_path):
    pixels = IMAGE // 4
    ds = build_cr(pixels=pixels, VOILUTSequence=[lookup_item(np.arange(1024) * 4, count=4096)])

    frame = frame_of(tmp_path, ds)

    np.testing.assert_allclose(frame.pixels, pixels * 4 / 4095, atol=0.001)
    assert frame.warnings == ()


@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("fault", [{"count": 4096}, {"bits": 99}, None], ids=["too short", "99 bits", "no descriptor"])
def test_a_broken_table_that_turns_the_grey_scale_round_fails_the_image(tmp_path, keyword, fault):
    item = lookup_item(np.arange(4000)[::-1].copy(), **(fault or {}))
    if fault is None:
        del item.LUTDescriptor
    ds = build_cr(pixels=IMAGE, **FULL, **{keyword: [item]})

    with pytest.raises(PixelModuleInvalid, match="turns the grey scale round"):
        frame_of(tmp_path, ds)


@pytest.mark.parametrize("vr", ["UN", "LO", "UT", "OB"])
def test_a_sequence_that_holds_no_items_is_left_aside(tmp_path, vr):
    content = with_raw(build_cr(pixels=IMAGE, **FULL), "VOILUTSequence", vr, b"\xfe\xff\x00\xe0\x10\0\0\0junk")

    frame = frame_of(tmp_path, content)

    np.testing.assert_allclose(frame.pixels, AS_IT_IS, atol=0.001)
    assert any("VOI LUT Sequence" in words for words in frame.warnings)


@pytest.mark.parametrize("term", ["Monochrome2", "monochrome2", " MONOCHROME2", "MONOCHROME2\0"])
def test_a_photometric_interpretation_in_other_letters_is_read(tmp_path, term):
    ds = build_cr(pixels=IMAGE, **FULL)
    ds["PhotometricInterpretation"] = DataElement("PhotometricInterpretation", "LO", term)

    np.testing.assert_allclose(frame_of(tmp_path, ds).pixels, AS_IT_IS, atol=0.001)


@pytest.mark.parametrize("term", ["monochrome1", "Monochrome1 "])
def test_a_small_monochrome1_is_as_inverted_as_a_large_one(tmp_path, term):
    ds = build_cr(pixels=IMAGE, **FULL)
    ds["PhotometricInterpretation"] = DataElement("PhotometricInterpretation", "LO", term)
    ds["PresentationLUTShape"] = DataElement("PresentationLUTShape", "LO", "inverse")

    np.testing.assert_allclose(frame_of(tmp_path, ds).pixels, 1 - AS_IT_IS, atol=0.001)


def test_what_is_no_polarity_is_left_aside(tmp_path):
    ds = build_cr(pixels=IMAGE, **FULL, PresentationLUTShape="UPSIDE", PixelIntensityRelationshipSign=7)

    frame = frame_of(tmp_path, ds)

    np.testing.assert_allclose(frame.pixels, AS_IT_IS, atol=0.001)
    assert [words.split(" is ")[0] for words in frame.warnings] == [
        "Presentation LUT Shape",
        "Pixel Intensity Relationship Sign",
    ]


@pytest.mark.parametrize(
    ("vr", "value"), [("SS", -1), ("US", 65535), ("IS", "-1"), ("DS", "65535"), ("SL", -1), ("UN", b"\xff\xff")]
)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("encoding", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_pixel_representation_decides_the_sign_of_the_padding_value(tmp_path, vr, value, signed, encoding):
    """PS3.3 C.7.5.1.1.2: 0xFFFF is 65535 over unsigned pixels and -1 over signed ones, whatever the element's VR."""
    if encoding == ImplicitVRLittleEndian and vr not in ("SS", "US", "UN"):
        pytest.skip("without VRs there are but the two bytes")
    pixels = np.linspace(100, 3000, 64 * 96).astype(np.int16 if signed else np.uint16).reshape(64, 96)
    pixels[:, :30] = -1 if signed else 65535
    ds = build_cr(pixels=pixels, bits_stored=16, transfer_syntax=encoding)
    ds["PixelPaddingValue"] = DataElement("PixelPaddingValue", vr, value)
    if encoding == ExplicitVRBigEndian:
        ds.PixelData = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()

    frame = frame_of(tmp_path, ds)

    assert (frame.pixels[:, :30] == 0).all()
    rest = pixels[:, 30:].astype(float)
    np.testing.assert_allclose(frame.pixels[:, 30:], (rest - rest.min()) / np.ptp(rest), atol=0.003)
    assert frame.warnings == ()


@pytest.mark.parametrize(("limit_vr", "limit"), [("SS", -3), ("US", 65533)])
def test_pixel_representation_decides_the_sign_of_the_range_limit(tmp_path, limit_vr, limit):
    pixels = np.linspace(100, 3000, 64 * 96).astype(np.uint16).reshape(64, 96)
    pixels[:, :30] = np.arange(30) % 3 + 65533
    ds = build_cr(pixels=pixels, bits_stored=16)
    ds["PixelPaddingValue"] = DataElement("PixelPaddingValue", "US", 65535)
    ds["PixelPaddingRangeLimit"] = DataElement("PixelPaddingRangeLimit", limit_vr, limit)

    frame = frame_of(tmp_path, ds)

    assert (frame.pixels[:, :30] == 0).all()
    assert frame.pixels[:, 30:].max() == 1


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("vr", ["US", "SS"])
def test_padding_beyond_the_stored_bits_is_padding_all_the_same(tmp_path, signed, vr):
    """A padding value of 16 bits beside pixels of 12: cut to 12 bits it would be a grey inside the picture."""
    pixels = ramp(64, 96).astype(np.int32) - (2048 if signed else 0)
    words = (pixels & 0xFFFF).astype(np.uint16)
    words[:, :30] = 63536
    ds = build_cr(pixels=words.astype(np.int16) if signed else words)
    ds["PixelPaddingValue"] = DataElement("PixelPaddingValue", vr, 63536 if vr == "US" else -2000)

    frame = frame_of(tmp_path, ds)

    if not signed:  # -2000 is a value that signed pixels of 12 bits have, too
        assert frame.pixels[:, 30:].max() == 1
    assert (frame.pixels[:, :30] == 0).all()


@pytest.mark.parametrize("first", ["US", "SS"])
@pytest.mark.parametrize("encoding", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_the_first_value_of_a_voi_lut_over_unsigned_pixels_may_exceed_32767(tmp_path, first, encoding):
    pixels = ramp(64, 96) + 40000
    item = lookup_item(np.arange(4096), first=40000 if first == "US" else 40000 - 65536)
    item["LUTDescriptor"].VR = first
    ds = build_cr(pixels=pixels, bits_stored=16, VOILUTSequence=[item], transfer_syntax=encoding)

    frame = frame_of(tmp_path, ds)

    np.testing.assert_allclose(frame.pixels, AS_IT_IS, atol=0.001)
    assert frame.warnings == ()


@pytest.mark.parametrize(
    ("signed", "rescale", "first"),
    [
        (False, ("1", "-1024"), -1024),  # a rescale below zero: signed
        (False, ("-1", "4095"), 0),  # turned round, and nothing below zero
        (False, ("-1", "0"), -4095),
        (True, ("1", "40000"), 37952),  # signed pixels, and the rescale lifts them above zero: unsigned
        (True, ("1", "0"), -2048),
    ],
)
@pytest.mark.parametrize("vr", ["US", "SS"])
def test_the_first_value_of_a_voi_lut_has_the_sign_of_the_modality_output(tmp_path, signed, rescale, first, vr):
    """PS3.3 C.11.2.1.1."""
    pixels = IMAGE.astype(np.int16) - 2048 if signed else IMAGE
    item = lookup_item(np.arange(4096))
    item["LUTDescriptor"] = DataElement("LUTDescriptor", vr, [4096, _as(first, vr), 12])
    ds = build_cr(pixels=pixels, RescaleSlope=rescale[0], RescaleIntercept=rescale[1], VOILUTSequence=[item])

    frame = frame_of(tmp_path, ds)

    np.testing.assert_allclose(frame.pixels, 1 - AS_IT_IS if rescale[0] == "-1" else AS_IT_IS, atol=0.001)
    assert frame.warnings == ()


def _as(value, vr):
    word = value & 0xFFFF
    return word - 65536 if vr == "SS" and word > 32767 else word


def test_the_first_value_of_a_voi_lut_behind_a_modality_lut_is_unsigned(tmp_path):
    modality = lookup_item(np.arange(4096) + 40000, first=-2048, bits=16)
    ds = build_cr(pixels=IMAGE.astype(np.int16) - 2048, ModalityLUTSequence=[modality])
    voi = lookup_item(np.arange(4096))
    voi["LUTDescriptor"] = DataElement("LUTDescriptor", "US", [4096, 40000, 12])
    ds.VOILUTSequence = [voi]

    np.testing.assert_allclose(frame_of(tmp_path, ds).pixels, AS_IT_IS, atol=0.001)


@pytest.mark.parametrize("vr", ["US", "SS"])
@pytest.mark.parametrize("signed", [False, True])
def test_a_palette_begins_where_the_sign_of_the_pixels_says(tmp_path, vr, signed):
    pixels = (
        (np.arange(16).reshape(4, 4) - 8).astype(np.int16)
        if signed
        else np.arange(16, dtype=np.uint16).reshape(4, 4) + 40000
    )
    ds = build_cr(pixels=pixels, bits_stored=16, PhotometricInterpretation="PALETTE COLOR")
    for name in ("Red", "Green", "Blue"):
        keyword = f"{name}PaletteColorLookupTableDescriptor"
        ds[keyword] = DataElement(keyword, vr, [16, _as(-8 if signed else 40000, vr), 8])
        setattr(ds, f"{name}PaletteColorLookupTableData", bytes(np.arange(16, dtype=np.uint8) * 17))

    np.testing.assert_allclose(frame_of(tmp_path, ds).pixels.ravel(), np.arange(16) / 15, atol=0.001)


def test_a_frame_and_its_presentation_come_from_the_same_window(tmp_path):
    ds = build_cr(pixels=IMAGE, WindowCenter=[60000, 1000], WindowWidth=[10, 2000])

    shown = read_displayed(write_part10(ds, tmp_path / "image.dcm"), 1)

    assert shown.softcopy.window == (1000, 2000, "LINEAR")
    assert shown.warnings
