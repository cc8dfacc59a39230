"""A part of `tests.bench.damage`: no damaged image is answered when more than 2 % of its pixels changed."""

from collections import Counter

import pytest

from tests.bench.damage import ENCODINGS, KINDS, measure, radiographs

STRICT_TO_THE_BIT = [name for name in ENCODINGS if name.startswith(("JPEG 2000", "JPEG-LS"))]


@pytest.mark.parametrize("name", ENCODINGS)
def test_no_damaged_image_is_answered(name):
    kinds = KINDS if name in STRICT_TO_THE_BIT else KINDS[:-1]

    row, wrong = measure(name, list(radiographs(1)), kinds, shares=(0.02, 0.4))

    assert row.damaged >= 20
    assert wrong == Counter()
