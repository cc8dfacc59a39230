import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian

from dicom_io.errors import PixelModuleInvalid, PixelsBlank
from dicom_io.pixels.display_attributes import Window, read_display_attributes, read_lookup_table
from dicom_io.pixels.grayscale import percentile_window, render, softcopy
from dicom_io.pixels.limits import PixelLimits, read_layout
from tests.builders import build_radiograph

STORED = np.arange(0, 4096, dtype=np.int32)
ONCE_EACH = np.ones(4096, dtype=np.int64)


def lookup_item(entries, first=0, bits=12, count=None, data=None):
    item = Dataset()
    item.LUTDescriptor = [len(entries) if count is None else count, first, bits]
    item.LUTData = np.asarray(entries, "<u2").tobytes() if data is None else data
    item["LUTData"].VR = "OW"
    return item


def bare(**overrides):
    return build_radiograph("CR", **overrides)


def attributes_of(ds):
    return read_display_attributes(ds, read_layout(ds, PixelLimits()))


def rendered(ds, stored=STORED, counts=ONCE_EACH):
    return render(attributes_of(ds), stored, counts)


def brightness(ds, stored=STORED, counts=ONCE_EACH):
    return rendered(ds, stored, counts).brightness


@pytest.mark.parametrize(
    ("function", "centre", "width", "value", "expected"),
    [
        # PS3.3 C.11.2.1.2.1: c = 2048, w = 4096 maps 0 to 0, 4095 to 1, and the note's other examples below
        ("LINEAR", 2048, 4096, 0, 0.0),
        ("LINEAR", 2048, 4096, 4095, 1.0),
        ("LINEAR", 2048, 1, 2047, 0.0),
        ("LINEAR", 2048, 1, 2048, 1.0),
        ("LINEAR", 0, 100, -50, 0.0),
        ("LINEAR", 0, 100, 49, 1.0),
        ("LINEAR", 0, 100, 0, 50 / 99),
        # C.11.2.1.3.2
        ("LINEAR_EXACT", 2048, 4096, 0, 0.0),
        ("LINEAR_EXACT", 2048, 4096, 4095, 4095 / 4096),
        ("LINEAR_EXACT", 0.5, 1, 0.75, 0.75),
        # C.11.2.1.3.1
        ("SIGMOID", 2048, 4096, 2048, 0.5),
        ("SIGMOID", 2048, 4096, 4096, 1 / (1 + math.exp(-2))),
        ("SIGMOID", 0, 1, -1e6, 0.0),
    ],
)
def test_windows_follow_the_formulas_of_the_standard(function, centre, width, value, expected):
    window = Window(centre, width, function)
    answer = window.brightness(np.array([value], dtype=np.float64))

    assert answer == pytest.approx([expected], abs=1e-12)


@given(
    value=st.integers(-40000, 70000),
    centre=st.floats(-1000, 1000),
    width=st.floats(1.001, 5000),
)
def test_the_linear_window_equals_the_standards_pseudo_code(value, centre, width):
    if value <= centre - 0.5 - (width - 1) / 2:
        expected = 0.0
    elif value > centre - 0.5 + (width - 1) / 2:
        expected = 1.0
    else:
        expected = (value - (centre - 0.5)) / (width - 1) + 0.5

    answer = Window(centre, width).brightness(np.array([float(value)]))

    assert answer == pytest.approx([expected], abs=1e-9)


@pytest.mark.parametrize(("function", "width"), [("LINEAR", 0.5), ("LINEAR", 0), ("LINEAR_EXACT", 0), ("SIGMOID", -1)])
def test_a_width_that_the_standard_forbids_counts_as_no_window(function, width):
    found = attributes_of(bare(WindowCenter=1, WindowWidth=width, VOILUTFunction=function))

    assert found.voi == ()
    assert found.left_aside == ("Window Width 1 is smaller than the standard allows and was left aside",)


def test_the_first_of_several_windows_is_used():
    ds = bare(WindowCenter=[2048, 100], WindowWidth=[4096, 10])

    assert brightness(ds)[1000] == pytest.approx(1000 / 4095, abs=1e-6)


def test_a_lookup_table_goes_before_a_window():
    entries = np.minimum(np.arange(4096) * 2, 4095)
    ds = bare(WindowCenter=2048, WindowWidth=4096, VOILUTSequence=[lookup_item(entries)])

    assert brightness(ds)[1000] == pytest.approx(2000 / 4095, abs=1e-6)


def test_rescale_comes_before_the_window():
    ds = bare(RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=0.5, WindowWidth=2001)

    table = brightness(ds)

    assert table[[0, 500, 1000]] == pytest.approx([0, 0.5, 1], abs=1e-6)


def test_a_modality_lookup_table_replaces_the_rescale():
    ds = bare(ModalityLUTSequence=[lookup_item([10, 20, 30], first=5)], RescaleSlope=7)

    assert list(rendered(ds).values[[0, 5, 6, 7, 100]]) == [10, 10, 20, 30, 30]


def test_a_modality_lookup_table_for_signed_pixels_begins_below_zero():
    ds = bare(ModalityLUTSequence=[lookup_item([10, 20, 30], first=65535)], PixelRepresentation=1)

    assert list(rendered(ds, STORED - 2).values[:4]) == [10, 10, 20, 30]


def test_a_lookup_table_for_signed_input_begins_below_zero():
    table = read_lookup_table(lookup_item([1, 2, 3], first=65535), signed_input=True, little_endian=True)

    assert list(table.apply(np.array([-5.0, -1.0, 0.0, 1.0, 9.0]))) == [1, 1, 2, 3, 3]


def test_a_lookup_table_for_unsigned_input_may_begin_above_32767():
    table = read_lookup_table(lookup_item([1, 2, 3], first=40000), signed_input=False, little_endian=True)

    assert list(table.apply(np.array([0.0, 40001.0, 65535.0]))) == [1, 2, 3]


@pytest.mark.parametrize("attributes", [{"RescaleIntercept": -1000, "RescaleSlope": 1}, {"PixelRepresentation": 1}])
def test_a_voi_lookup_table_begins_below_zero_where_its_input_does(attributes):
    stored = STORED if "RescaleSlope" in attributes else STORED - 1000
    ds = bare(VOILUTSequence=[lookup_item(np.arange(4096), first=65536 - 1000)], **attributes)

    assert brightness(ds, stored) == pytest.approx(STORED / 4095, abs=1e-6)


def test_a_descriptor_of_zero_entries_means_65536():
    entries = np.arange(65536)
    table = read_lookup_table(lookup_item(entries, bits=16, count=0), signed_input=False, little_endian=True)

    assert table.apply(np.array([65535.0])) == [65535]


@pytest.mark.parametrize("data", [bytes([7, 8, 9, 0]), np.array([7, 8, 9], "<u2").tobytes(), [7, 8, 9]])
def test_eight_bit_entries_are_read_as_bytes_and_as_words(data):
    item = lookup_item([], bits=8, count=3)
    item["LUTData"].VR = "US" if isinstance(data, list) else "OW"
    item.LUTData = data

    table = read_lookup_table(item, signed_input=False, little_endian=True)

    assert list(table.entries) == [7, 8, 9]


def test_entries_larger_than_their_declared_bits_set_the_scale():
    table = read_lookup_table(lookup_item([0, 4095], bits=8), signed_input=False, little_endian=True)

    assert table.bits == 12


def test_entries_of_a_big_endian_data_set_are_read_in_its_order():
    item = lookup_item([], count=2, data=np.array([256, 3840], ">u2").tobytes())
    ds = bare(VOILUTSequence=[item], transfer_syntax=ExplicitVRBigEndian)

    assert brightness(ds, STORED[:2], ONCE_EACH[:2]) == pytest.approx([256 / 4095, 3840 / 4095])


@pytest.mark.parametrize(
    "item",
    [
        lookup_item([]),
        lookup_item([1, 2], data=b""),
        lookup_item([1, 2], bits=0),
        lookup_item([1, 2], bits=17),
        Dataset(),
    ],
)
def test_a_lookup_table_that_contradicts_itself_is_refused(item):
    with pytest.raises(PixelModuleInvalid):
        read_lookup_table(item, signed_input=False, little_endian=True)


@pytest.mark.parametrize(
    ("photometric", "shape", "sign", "intent", "inverted"),
    [
        ("MONOCHROME2", None, None, None, False),
        ("MONOCHROME2", "IDENTITY", -1, "FOR PRESENTATION", False),
        ("MONOCHROME1", None, None, None, True),
        # both say the same thing, so once
        ("MONOCHROME1", "INVERSE", 1, "FOR PRESENTATION", True),
        # contradictions without an arbiter
        ("MONOCHROME2", "INVERSE", None, None, True),
        ("MONOCHROME1", "IDENTITY", None, None, True),
        # contradictions with one: 1 = small values are bone
        ("MONOCHROME2", "INVERSE", -1, None, False),
        ("MONOCHROME2", "INVERSE", 1, None, True),
        ("MONOCHROME1", "IDENTITY", -1, None, False),
        ("MONOCHROME1", "IDENTITY", 1, None, True),
        # the arbiter is not asked where there is nothing to decide
        ("MONOCHROME2", None, 1, None, False),
        ("MONOCHROME1", "INVERSE", -1, None, True),
        # raw data were never meant for display
        ("MONOCHROME2", None, 1, "FOR PROCESSING", True),
        ("MONOCHROME1", None, -1, "FOR PROCESSING", False),
        ("MONOCHROME1", None, None, "FOR PROCESSING", True),
    ],
)
def test_polarity_is_decided_once(photometric, shape, sign, intent, inverted):
    ds = bare(
        PhotometricInterpretation=photometric,
        PresentationLUTShape=shape,
        PixelIntensityRelationshipSign=sign,
        PresentationIntentType=intent,
    )

    assert attributes_of(ds).inverted is inverted


def test_monochrome1_is_inverted_after_the_window():
    # C.7.6.3.1.2: the smallest value is white *after* any VOI transformation; before it, 0 would come out as 0
    ds = bare(PhotometricInterpretation="MONOCHROME1", WindowCenter=512, WindowWidth=1024)

    assert brightness(ds)[[0, 1023, 4095]] == pytest.approx([1, 0, 0], abs=1e-6)


def test_percentiles_leave_out_a_two_thousandth_at_either_end():
    values = np.arange(10000.0)

    answer = percentile_window(values, np.ones(10000, dtype=np.int64)).brightness(values)

    assert answer[[0, 4, 9994, 9999]] == pytest.approx([0, 0, 1, 1])
    assert answer[4999] == pytest.approx((4999 - 4) / (9994 - 4))


@given(st.lists(st.integers(0, 50), min_size=2, max_size=300).filter(lambda pixels: len(set(pixels)) > 1))
def test_percentiles_agree_with_numpys_on_the_pixels_themselves(pixels):
    counts = np.bincount(pixels, minlength=51)
    low, high = np.percentile(pixels, [0.05, 99.95], method="inverted_cdf")
    if low == high:
        low, high = min(pixels), max(pixels)

    answer = percentile_window(np.arange(51.0), counts).brightness(np.arange(51.0))

    assert answer == pytest.approx(np.clip((np.arange(51) - low) / (high - low), 0, 1))


def test_percentiles_are_right_when_the_rescale_turns_the_values_round():
    ds = bare(RescaleSlope=-1, RescaleIntercept=4095)

    table = brightness(ds)

    assert table[0] == 1
    assert table[4095] == 0


def test_a_window_beside_the_pixels_gives_way_to_percentiles():
    ds = bare(WindowCenter=60000, WindowWidth=10)

    table = brightness(ds)

    assert table[[0, 4095]] == pytest.approx([0, 1])


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_window_that_leaves_nothing_but_black_and_white_gives_way_to_percentiles(function, photometric):
    # a window for eight bits, left over beside pixels of twelve: a black edge, and bone and flesh alike white
    ds = bare(WindowCenter=128, WindowWidth=256, VOILUTFunction=function, PhotometricInterpretation=photometric)
    counts = np.zeros(4096, dtype=np.int64)
    counts[0], counts[1000:4000] = 1000, 1

    table = brightness(ds, STORED, counts)

    assert abs(table[3500] - table[1500]) > 0.5


def test_a_window_for_a_small_part_of_the_picture_is_kept():
    # a finger on a large plate: two per cent of the pixels lie within the window
    ds = bare(WindowCenter=2048, WindowWidth=100)
    counts = np.zeros(4096, dtype=np.int64)
    counts[0], counts[2000:2100] = 4900, 1

    assert brightness(ds, STORED, counts)[2100] == 1


@pytest.mark.parametrize(
    "attributes",
    [
        {"WindowCenter": 3500, "WindowWidth": 300},
        {"WindowCenter": 128, "WindowWidth": 256},
        {"VOILUTSequence": [lookup_item(np.arange(256) * 16)]},
    ],
    ids=["all but the brightest bone black", "all but the air white", "a table for eight bits"],
)
def test_a_window_that_hides_most_shades_gives_way_to_percentiles(attributes):
    # four to seven per cent of the pixels are grey, the others of all shades
    found = rendered(bare(**attributes))

    assert found.brightness[3000] - found.brightness[1000] > 0.4
    assert "between black and white" in found.left_aside[0]


def test_a_table_that_hides_the_image_still_says_which_way_round_the_grey_scale_is():
    ds = bare(VOILUTSequence=[lookup_item(np.arange(255, -1, -1) * 16)], WindowCenter=2048, WindowWidth=4096)

    found = rendered(ds)

    assert found.brightness[[0, 4095]] == pytest.approx([1, 0])
    assert softcopy(found).inverted


def test_another_table_that_can_be_used_says_which_way_round_the_grey_scale_is():
    tables = [lookup_item(np.arange(255, -1, -1) * 16), lookup_item(np.arange(4095, -1, -1))]

    assert brightness(bare(VOILUTSequence=tables))[[0, 4095]] == pytest.approx([1, 0])


def test_an_image_of_one_value_is_blank():
    counts = np.zeros(4096, dtype=np.int64)
    counts[17] = 100

    with pytest.raises(PixelsBlank):
        brightness(bare(), STORED, counts)
