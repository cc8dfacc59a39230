import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from models.images import ImageLimits, load_picture, read_image
from models.types import ImageError
from tests.product import ROOT

RADIOGRAPHS = sorted((ROOT / "tests" / "data" / "fracatlas").glob("*.jpg"))


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


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


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


# What Exif 2.32 (4.6.4) says of each orientation: what is done to stored pixels to see them upright.
TURNED = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).T,
    8: np.rot90,
}
FORMATS = {
    "jpg": {"quality": 100},
    "png": {},
    "tif": {},
    "webp": {"lossless": True},
}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("orientation", TURNED)
def test_a_picture_is_turned_upright_by_the_orientation_that_it_states(
    suffix: str, orientation: int, tmp_path: Path
) -> None:
    stored = np.kron(np.array([[10, 60, 110], [160, 210, 250]], np.uint8), np.ones((16, 16), np.uint8))
    Image.fromarray(stored).save(tmp_path / f"a.{suffix}", exif=exif_of(orientation), **FORMATS[suffix])

    picture = load_picture(tmp_path / f"a.{suffix}")

    assert picture.orientation == orientation
    np.testing.assert_allclose(picture.pixels, TURNED[orientation](stored) / 255, atol=2 / 255)


def test_a_16_bit_tiff_is_turned_too(tmp_path: Path) -> None:
    stored = np.arange(24, dtype=np.uint16).reshape(4, 6) * 2000
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", extratags=[(274, "H", 1, 6, True)])

    np.testing.assert_allclose(read_image(tmp_path / "a.tif"), np.rot90(stored, -1) / 65535, atol=1e-6)


def test_a_png_may_state_its_orientation_behind_its_pixels(tmp_path: Path) -> None:
    Image.new("L", (8, 4), 9).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:-12] + chunk(b"eXIf", exif_of(6).removeprefix(b"Exif\0\0")) + whole[-12:])

    assert read_image(tmp_path / "a.png").shape == (8, 4)


def test_an_orientation_that_the_standard_does_not_know_turns_nothing(tmp_path: Path) -> None:
    Image.new("L", (8, 4)).save(tmp_path / "a.jpg", exif=exif_of(9))

    assert load_picture(tmp_path / "a.jpg").orientation == 1


def test_a_picture_whose_orientation_cannot_be_known_is_refused(tmp_path: Path) -> None:
    Image.new("L", (8, 4)).save(tmp_path / "a.jpg", exif=exif_of(6)[:20])

    with pytest.raises(ImageError, match="how it must be turned is unknown"):
        read_image(tmp_path / "a.jpg")


def test_a_picture_over_the_limit_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 46341, 46341, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)

    with pytest.raises(ImageError, match=r"absurd size|more than the limit"):
        read_image(tmp_path / "bomb.png")


def test_the_limits_are_the_caller_s(tmp_path: Path) -> None:
    Image.new("L", (20, 10)).save(tmp_path / "a.png")

    with pytest.raises(ImageError, match="20 x 10 pixels are more than the limit of 199"):
        read_image(tmp_path / "a.png", ImageLimits(maximum_pixels=199))
    with pytest.raises(ImageError, match="bytes"):
        read_image(tmp_path / "a.png", ImageLimits(maximum_file_bytes=10))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for share in (0.1, 0.5, 0.9):
        (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])

        with pytest.raises(ImageError):
            read_image(tmp_path / name)


def cut(data: bytes, start: int, length: int) -> bytes:
    return data[:start] + data[start + length :]


def zeroed(data: bytes, start: int, length: int) -> bytes:
    return data[:start] + bytes(length) + data[start + length :]


def filled(data: bytes, start: int, length: int) -> bytes:
    noise = np.random.default_rng(length).integers(0, 256, length, dtype=np.uint8).tobytes()
    return data[:start] + noise + data[start + length :]


def written(pixels: NDArray[np.uint8], how: str, folder: Path) -> bytes:
    suffix, options = {
        "baseline": ("jpg", {"quality": 90}),
        "optimised": ("jpg", {"quality": 90, "optimize": True}),
        "progressive": ("jpg", {"quality": 90, "progressive": True}),
        "restart markers": ("jpg", {"restart_marker_rows": 1}),
        "png": ("png", {}),
        "lzw": ("tif", {"compression": "tiff_lzw"}),
        "deflate": ("tif", {"compression": "tiff_adobe_deflate"}),
        "packbits": ("tif", {"compression": "packbits"}),
    }[how]
    Image.fromarray(pixels).save(folder / f"whole.{suffix}", **options)
    return (folder / f"whole.{suffix}").read_bytes()


@pytest.mark.parametrize(
    "how", ["baseline", "optimised", "progressive", "restart markers", "png", "lzw", "deflate", "packbits"]
)
@pytest.mark.parametrize("damage", [cut, zeroed, filled])
def test_a_picture_that_is_damaged_inside_is_refused_with_its_beginning_and_end_whole(
    how: str, damage: Callable[[bytes, int, int], bytes], tmp_path: Path
) -> None:
    with Image.open(RADIOGRAPHS[0]) as radiograph:
        pixels = np.asarray(radiograph.convert("L"))
    whole = written(pixels, how, tmp_path)
    (tmp_path / "whole").write_bytes(whole)
    assert read_image(tmp_path / "whole").shape == pixels.shape
    first = whole.index(b"\xff\xda") + 14 if whole.startswith(b"\xff\xd8") else 600
    for share in (0.02, 0.05, 0.2, 0.6):
        length = int((len(whole) - first) * share)
        for start in (first, first + (len(whole) - first - length) // 2, len(whole) - 600 - length):
            (tmp_path / "damaged").write_bytes(damage(whole, max(start, first), length))

            with pytest.raises(ImageError, match=r"damaged|not a JPEG, PNG, TIFF or WebP"):
                read_image(tmp_path / "damaged")


def test_the_reason_has_the_decoder_s_words(tmp_path: Path) -> None:
    whole = RADIOGRAPHS[0].read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2] + b"\xff\xd9")

    with pytest.raises(ImageError, match="the picture is damaged: premature end of data segment"):
        read_image(tmp_path / "a.jpg")


def test_a_progressive_jpeg_cut_between_two_scans_is_refused(tmp_path: Path) -> None:
    whole = written(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8), "progressive", tmp_path)
    (tmp_path / "a.jpg").write_bytes(whole[: whole.rindex(b"\xff\xda")] + b"\xff\xd9")

    with pytest.raises(ImageError, match="scans of a progressive JPEG are missing"):
        read_image(tmp_path / "a.jpg")


def test_a_png_without_a_chunk_of_its_pixels_is_refused(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (400, 400), dtype=np.uint8)
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
    header = struct.pack(">IIBBBBB", 400, 400, 8, 0, 0, 0, 0)
    parts = [chunk(b"IDAT", rows[place : place + 8192]) for place in range(0, len(rows), 8192)]
    start, end = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header), chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(start + b"".join(parts) + end)
    assert read_image(tmp_path / "a.png").shape == (400, 400)
    for missing in (0, len(parts) // 2, len(parts) - 1):
        (tmp_path / "a.png").write_bytes(start + b"".join(parts[:missing] + parts[missing + 1 :]) + end)

        with pytest.raises(ImageError, match="damaged"):
            read_image(tmp_path / "a.png")


@pytest.mark.parametrize("behind", [bytes(700), b"a camera's own data" * 9, RADIOGRAPHS[1].read_bytes()])
def test_what_stands_behind_the_end_of_a_jpeg_is_passed_over(behind: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(RADIOGRAPHS[0].read_bytes() + behind)

    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), read_image(RADIOGRAPHS[0]))


def test_every_radiograph_of_the_tests_is_whole() -> None:
    assert len(RADIOGRAPHS) > 1
    for path in RADIOGRAPHS:
        assert read_image(path).ndim == 2


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif", "a.mpo"])
def test_a_file_with_several_pictures_is_refused(name: str, tmp_path: Path) -> None:
    first, second = Image.new("L", (40, 30), 9), Image.new("L", (40, 30), 90)
    first.save(tmp_path / name, save_all=True, append_images=[second])

    with pytest.raises(ImageError, match=r"holds 2 pictures|not a JPEG, PNG, TIFF or WebP"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.tif", "a.mpo"])
def test_a_smaller_copy_in_the_file_is_no_second_picture(name: str, tmp_path: Path) -> None:
    first = Image.new("L", (400, 300), 102)
    first.save(tmp_path / name, save_all=True, append_images=[first.resize((160, 120))])

    assert read_image(tmp_path / name).max() == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "F", "I"])
def test_values_without_a_known_black_and_white_are_refused_in_words(mode: str, tmp_path: Path) -> None:
    Image.new(mode, (40, 30)).save(tmp_path / "a.tif")

    with pytest.raises(ImageError, match="save it"):
        read_image(tmp_path / "a.tif")


def test_a_jpeg_in_printing_colours_is_refused(tmp_path: Path) -> None:
    Image.new("CMYK", (40, 30)).save(tmp_path / "a.jpg")

    with pytest.raises(ImageError, match="CMYK"):
        read_image(tmp_path / "a.jpg")


def test_colour_of_16_bits_keeps_its_depth(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 4096, (20, 30, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), deep[..., ::-1])

    np.testing.assert_allclose(read_image(tmp_path / "a.png"), deep @ [0.299, 0.587, 0.114] / 65535, atol=1e-6)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_whose_smallest_value_is_white_is_inverted(bits: int, tmp_path: Path) -> None:
    stored = np.array([[0, 2**bits - 1]] * 8, f"uint{bits}")
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite")

    np.testing.assert_allclose(read_image(tmp_path / "a.tif"), 1 - stored / (2**bits - 1), atol=1e-6)


def test_signed_values_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8), np.int16), photometric="minisblack")

    with pytest.raises(ImageError, match=r"signed|32-bit"):
        read_image(tmp_path / "a.tif")


def test_a_tiff_with_jpeg_inside_is_refused(tmp_path: Path) -> None:
    Image.new("L", (64, 64), 9).save(tmp_path / "a.tif", compression="jpeg")

    with pytest.raises(ImageError, match="cannot be checked for damage"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("layout", [{}, {"tile": (16, 32)}, {"rowsperstrip": 7}, {"byteorder": ">"}])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits"])
def test_strips_and_tiles_of_every_compression_are_read(
    layout: dict[str, Any], compression: str | None, tmp_path: Path
) -> None:
    stored = np.random.default_rng(0).integers(0, 65536, (50, 70), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", compression=compression, **layout)

    np.testing.assert_allclose(read_image(tmp_path / "a.tif"), stored / 65535, atol=1e-6)


def test_what_is_transparent_is_black(tmp_path: Path) -> None:
    seen = np.array([[[255, 255, 255, 255], [255, 255, 255, 0]]], np.uint8)
    Image.fromarray(seen).save(tmp_path / "a.png")

    np.testing.assert_allclose(read_image(tmp_path / "a.png"), [[1, 0]])


def test_other_files_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.new("L", (8, 8)).save(tmp_path / "a.bmp")

    for name in ("a.png", "empty.png", "a.bmp", "missing.png", "."):
        with pytest.raises(ImageError):
            read_image(tmp_path / name)


def test_a_png_that_inflates_beyond_its_size_is_refused_before_it_has(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    bomb = zlib.compress(bytes(50_000_000), 9)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", bomb) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)

    with pytest.raises(ImageError, match="more pixels than its size"):
        read_image(tmp_path / "a.png")


def test_a_jpeg_of_more_scans_than_any_encoder_writes_is_refused(tmp_path: Path) -> None:
    whole = written(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8), "progressive", tmp_path)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    (tmp_path / "a.jpg").write_bytes(whole[:-2] + last * 100 + whole[-2:])

    with pytest.raises(ImageError, match="more than 100 scans"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize(("tag", "value"), [(278, 0), (322, 0), (322, 2**31 - 16), (278, 2**32 - 1)])
def test_a_tiff_of_absurd_strips_or_tiles_is_read_or_refused_and_takes_no_memory(
    tag: int, value: int, tmp_path: Path
) -> None:
    layout = {"tile": (16, 16)} if tag == 322 else {"rowsperstrip": 16}
    tifffile.imwrite(tmp_path / "a.tif", np.eye(64, dtype=np.uint8), compression="zlib", **layout)
    data = (tmp_path / "a.tif").read_bytes()
    place = next(i for i in range(len(data) - 12) if data[i : i + 2] == struct.pack("<H", tag) and data[i + 3] == 0)
    entry = struct.pack("<HHII", tag, 4, 1, value)
    (tmp_path / "a.tif").write_bytes(data[:place] + entry + data[place + 12 :])

    with pytest.raises(ImageError):
        read_image(tmp_path / "a.tif")
