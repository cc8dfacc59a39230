"""A data folder as archives of a bounded size and back, byte for byte; nothing leaves the folder it is restored to."""

import csv
import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.training_data import COLUMNS, ROWS, write_data
from training.dataset import load
from training.pack import Entry, PackError, entries, pack, reduced, unpack


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_data(tmp_path / "data", train=6, valid=4)
    return tmp_path / "data"


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_comes_back_byte_for_byte_from_pieces_in_any_order(data: Path, tmp_path: Path) -> None:
    pieces = pack(entries(data), tmp_path / "pieces", 60_000)

    assert unpack(pieces[::-1], tmp_path / "restored") == len(content(data))

    assert len(pieces) > 2
    assert content(tmp_path / "restored") == content(data)


@pytest.mark.parametrize("name", ["a.png", "image-" + "x" * 150 + ".png", "Röntgen.png"])
def test_no_piece_is_larger_than_asked_for(tmp_path: Path, name: str) -> None:
    files = (Entry(f"images/{number:03d}-{name}", bytes(700)) for number in range(200))

    pieces = pack(files, tmp_path, 64_000)

    assert max(piece.stat().st_size for piece in pieces) < 64_000
    assert len(pieces) < 20


def test_the_same_data_give_the_same_pieces(data: Path, tmp_path: Path) -> None:
    first, second = (pack(entries(data), tmp_path / name, 60_000) for name in ("one", "two"))
    assert [piece.read_bytes() for piece in first] == [piece.read_bytes() for piece in second]


def test_a_file_too_large_for_a_piece_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"big\.png"):
        pack(iter([Entry("big.png", bytes(100_000))]), tmp_path, 64_000)


def test_a_missing_piece_is_noticed_and_nothing_is_left_behind(data: Path, tmp_path: Path) -> None:
    pieces = pack(entries(data), tmp_path / "pieces", 60_000)
    with pytest.raises(PackError, match=r"pieces .* are needed"):
        unpack(pieces[1:], tmp_path / "restored")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "pieces"]


def test_a_changed_byte_is_noticed(data: Path, tmp_path: Path) -> None:
    piece = pack(entries(data), tmp_path / "pieces", 10**7)[0]
    damaged = bytearray(piece.read_bytes())
    damaged[700] ^= 1  # inside the first file
    piece.write_bytes(damaged)
    with pytest.raises(PackError, match="does not match its SHA-256"):
        unpack([piece], tmp_path / "restored")


def test_a_folder_that_is_there_is_never_overwritten(data: Path, tmp_path: Path) -> None:
    pieces = pack(entries(data), tmp_path / "pieces", 10**7)
    with pytest.raises(FileExistsError):
        unpack(pieces, data)


def forged(path: Path, member: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as tar:
        tar.addfile(member, io.BytesIO(bytes(member.size)))
    return path


@pytest.mark.parametrize("name", ["../outside.txt", "/outside.txt", "a/../../outside.txt"])
def test_a_piece_cannot_write_outside_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(PackError, match="something else than files below one folder"):
        unpack([forged(tmp_path / "piece-01.tar", tarfile.TarInfo(name))], tmp_path / "deep" / "restored")
    assert not list(tmp_path.rglob("outside.txt"))
    assert not Path("/outside.txt").exists()


def test_a_piece_cannot_bring_a_link(tmp_path: Path) -> None:
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with pytest.raises(PackError, match="something else than files"):
        unpack([forged(tmp_path / "piece-01.tar", link)], tmp_path / "restored")


def test_a_file_that_is_no_archive_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "piece-01.tar").write_bytes(b"not a tar" * 100)
    with pytest.raises(PackError, match="damaged or no piece of data"):
        unpack([tmp_path / "piece-01.tar"], tmp_path / "restored")


def test_reduced_pictures_carry_their_boxes_and_sizes_along(data: Path, tmp_path: Path) -> None:
    unpack(pack(reduced(data, 60), tmp_path / "pieces", 10**7), tmp_path / "small")

    for before, after in zip(load(data, "train"), load(tmp_path / "small", "train"), strict=True):
        assert after.pixels().shape == (60, 60 * COLUMNS // ROWS)
        scaled = [tuple(value * 60 / ROWS for value in box) for box in before.boxes_xyxy]
        assert after.boxes_xyxy == tuple(pytest.approx(box) for box in scaled)


def test_a_picture_that_ends_early_is_not_made_whole_by_reducing_it(data: Path) -> None:
    cut = data / "images" / "train0.png"
    cut.write_bytes(cut.read_bytes()[:2000])

    assert {entry.name: entry.content for entry in reduced(data, 60)}["images/train0.png"] == cut.read_bytes()


def test_small_pictures_stay_as_they_are_and_the_table_says_the_new_sizes(data: Path) -> None:
    labels = data / "labels.csv"
    labels.write_text("file_name,split,width,height,original_width\ntrain0.png,train,100,120,900\n")

    kept = {entry.name: entry.content for entry in reduced(data, 120)}
    smaller = {entry.name: entry.content for entry in reduced(data, 60)}

    assert kept["images/train0.png"] == (data / "images" / "train0.png").read_bytes()
    row = next(csv.DictReader(io.StringIO(smaller["labels.csv"].decode())))
    assert (row["width"], row["height"], row["original_width"]) == ("50", "60", "900")
    assert json.loads(smaller["boxes_train.json"])["images"][0]["width"] == 50
