import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.images import ImageLimits, read_image
from models.types import ImageError


def test_an_8_bit_png_is_read_as_fractions_of_255(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 51], [102, 255]], np.uint8)).save(tmp_path / "a.png")

    pixels = read_image(tmp_path / "a.png")

    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, [[0, 0.2], [0.4, 1.0]], atol=1e-6)


def test_a_16_bit_png_keeps_its_depth(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1], [32768, 65535]], np.uint16)).save(tmp_path / "a.png")

    np.testing.assert_allclose(read_image(tmp_path / "a.png"), [[0, 1 / 65535], [32768 / 65535, 1]], atol=1e-7)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA", "1"])
def test_colour_transparency_and_palettes_become_grey(tmp_path: Path, mode: str) -> None:
    Image.new("L", (4, 3), 255).convert(mode).save(tmp_path / "a.png")

    pixels = read_image(tmp_path / "a.png")

    assert pixels.shape == (3, 4)
    assert pixels.min() == pixels.max() == 1.0


def test_green_is_brighter_than_blue(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[0, 255, 0], [0, 0, 255]]], np.uint8)).save(tmp_path / "a.png")

    green, blue = read_image(tmp_path / "a.png")[0]

    assert green == pytest.approx(0.587, abs=0.01)
    assert blue == pytest.approx(0.114, abs=0.01)


def test_an_exif_orientation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a right angle
    Image.new("L", (8, 4)).save(tmp_path / "a.jpg", exif=exif)

    assert read_image(tmp_path / "a.jpg").shape == (4, 8)


def test_a_picture_over_the_limit_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 46341, 46341, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    data = zlib.compress(b"")
    body = struct.pack(">I", len(data)) + b"IDAT" + data + struct.pack(">I", zlib.crc32(b"IDAT" + data))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + body)

    with pytest.raises(ImageError, match=r"absurd size|more than the limit"):
        read_image(tmp_path / "bomb.png")


def test_the_limits_are_the_caller_s(tmp_path: Path) -> None:
    Image.new("L", (20, 10)).save(tmp_path / "a.png")

    with pytest.raises(ImageError, match="20 x 10 pixels are more than the limit of 199"):
        read_image(tmp_path / "a.png", ImageLimits(maximum_pixels=199))
    with pytest.raises(ImageError, match="bytes"):
        read_image(tmp_path / "a.png", ImageLimits(maximum_file_bytes=10))


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for share in (0.1, 0.5, 0.9):
        (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])

        with pytest.raises(ImageError):
            read_image(tmp_path / name)


def test_other_files_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.new("L", (8, 8)).save(tmp_path / "a.tif")

    for name in ("a.png", "empty.png", "a.tif", "missing.png", "."):
        with pytest.raises(ImageError):
            read_image(tmp_path / name)
