"""What the unit tests of several files share."""

import pytest

from dicom_io.pixels.frames import read_frames
from tests.builders import write_part10


@pytest.fixture
def read(tmp_path):
    """Write a data set and read its frames back."""

    def read(ds, limits=None):
        return list(read_frames(write_part10(ds, tmp_path / "image.dcm"), limits))

    return read
