"""Pack a data folder into archives of a bounded size, and restore it byte for byte on another machine.

    python -m training.pack --data DATA --out FOLDER
    python -m training.pack --unpack FOLDER/piece-*.tar --data DATA

A piece is a plain tar of files under their paths below the data folder, in order of names. Each piece ends with
`manifest-<number>.json`, which has the SHA-256 of its files and the number of pieces, so that a missing, damaged or
foreign piece is noticed before the folder is there. With --longest-side larger pictures are reduced to it (grey PNG,
or JPEG of quality 90 where they were JPEG) and their boxes scaled.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from models.images import read_image
from models.types import ImageError

MIB = 1024 * 1024
PIECE_MIB = 60
PIECE = "piece-{:02d}.tar"
MANIFEST = "manifest-{:02d}.json"
PICTURES = frozenset({".png", ".jpg", ".jpeg"})
JPEG_QUALITY = 90
# A checksum with its quotes and commas in the manifest; the end of an archive, and the manifest's own header.
DIGEST_BYTES = 72
TAIL_BYTES = 2 * tarfile.RECORDSIZE


class PackError(ValueError):
    """The pieces do not make up one whole data folder, or a file is too large for a piece."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a data folder: its path below it (with /) and its content."""

    name: str
    content: bytes

    @property
    def member(self) -> tarfile.TarInfo:
        """What a tar says of it: neither owner nor times, so that the same data give the same bytes."""
        member = tarfile.TarInfo(self.name)
        member.size, member.mode = len(self.content), 0o644
        return member

    @property
    def cost(self) -> int:
        """The bytes that it takes in a piece, its line in the manifest included."""
        padded = -(-len(self.content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        return len(self.member.tobuf(tarfile.PAX_FORMAT)) + padded + len(json.dumps(self.name)) + DIGEST_BYTES


def entries(data: Path) -> Iterator[Entry]:
    """Yield the files of a data folder as they are."""
    for path in _files(data):
        yield Entry(path.relative_to(data).as_posix(), path.read_bytes())


def _files(data: Path) -> list[Path]:
    return sorted(path for path in data.rglob("*") if path.is_file())


def reduced(data: Path, longest_side: int) -> Iterator[Entry]:
    """Yield the files with pictures no larger than `longest_side` pixels; boxes and sizes in labels.csv follow.

    `original_width` and `original_height` stay; pictures that are small enough stay byte for byte.
    """
    scales: dict[str, float] = {}
    sizes: dict[str, tuple[int, int]] = {}
    tables = []
    for path in _files(data):
        if path.suffix.lower() not in PICTURES:
            tables.append(path)
            continue
        smaller = _reduce(path, longest_side)
        if smaller is not None:
            scales[path.name], sizes[path.name] = smaller.scale, smaller.size
        content = path.read_bytes() if smaller is None else smaller.content
        yield Entry(path.relative_to(data).as_posix(), content)
    for path in tables:
        yield Entry(path.relative_to(data).as_posix(), _rescaled(path, scales, sizes))


@dataclass(frozen=True, slots=True)
class Smaller:
    """A picture's new file, what its coordinates were multiplied by, and its size (columns, rows)."""

    content: bytes
    scale: float
    size: tuple[int, int]


def _reduce(path: Path, longest_side: int) -> Smaller | None:
    """Reduce a picture; None where it stays as it is: small enough, or damaged, which writing anew would hide."""
    try:
        pixels = read_image(path)
    except ImageError:
        return None
    rows, columns = pixels.shape
    scale = longest_side / max(rows, columns)
    if scale >= 1:
        return None
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    grey = np.rint(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) * 255).astype(np.uint8)
    _, code = cv2.imencode(path.suffix.lower(), grey, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return Smaller(code.tobytes(), scale, size)


def _rescaled(path: Path, scales: dict[str, float], sizes: dict[str, tuple[int, int]]) -> bytes:
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        boxed = isinstance(content, dict) and "annotations" in content
        return json.dumps(_rescaled_boxes(content, scales, sizes)).encode() if boxed else path.read_bytes()
    if path.name != "labels.csv":
        return path.read_bytes()
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = [row | _new_size(row, sizes) for row in reader]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, reader.fieldnames or (), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _new_size(row: dict[str, str], sizes: dict[str, tuple[int, int]]) -> dict[str, str]:
    if not {"width", "height"} <= row.keys() or row["file_name"] not in sizes:
        return {}
    columns, rows = sizes[row["file_name"]]
    return {"width": str(columns), "height": str(rows)}


def _rescaled_boxes(
    coco: dict[str, Any], scales: dict[str, float], sizes: dict[str, tuple[int, int]]
) -> dict[str, Any]:
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    for image in coco["images"]:
        if image["file_name"] in sizes:
            image["width"], image["height"] = sizes[image["file_name"]]
    for annotation in coco["annotations"]:
        scale = scales.get(names[annotation["image_id"]], 1.0)
        annotation["bbox"] = [value * scale for value in annotation["bbox"]]
        if "area" in annotation:
            annotation["area"] *= scale**2
    return coco


def pack(content: Iterator[Entry], out: Path, piece_bytes: int) -> list[Path]:
    """Write pieces of at most `piece_bytes`; returns their paths.

    Raises
    ------
    PackError
        One file alone is larger, or there is none.
    """
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("piece-*.tar*"):
        old.unlink()
    drafts: list[Path] = []
    manifests: list[dict[str, str]] = []
    for group in _groups(content, piece_bytes):
        drafts.append(out / f"{PIECE.format(len(drafts) + 1)}.part")
        with tarfile.open(drafts[-1], "w", format=tarfile.PAX_FORMAT) as tar:
            for entry in group:
                _add(tar, entry)
        manifests.append({entry.name: hashlib.sha256(entry.content).hexdigest() for entry in group})
    if not drafts:
        raise PackError("there is nothing to pack")
    for number, (draft, files) in enumerate(zip(drafts, manifests, strict=True), 1):
        manifest = {"piece": number, "pieces": len(drafts), "files": files}
        with tarfile.open(draft, "a") as tar:
            _add(tar, Entry(MANIFEST.format(number), json.dumps(manifest).encode()))
    return [draft.rename(draft.with_suffix("")) for draft in drafts]


def _groups(content: Iterator[Entry], piece_bytes: int) -> Iterator[list[Entry]]:
    group: list[Entry] = []
    size = TAIL_BYTES
    for entry in content:
        if TAIL_BYTES + entry.cost > piece_bytes:
            raise PackError(f"{entry.name} has {len(entry.content)} bytes, too many for a piece of {piece_bytes}")
        if size + entry.cost > piece_bytes:
            yield group
            group, size = [], TAIL_BYTES
        group.append(entry)
        size += entry.cost
    if group:
        yield group


def _add(tar: tarfile.TarFile, entry: Entry) -> None:
    tar.addfile(entry.member, io.BytesIO(entry.content))


def unpack(pieces: Sequence[Path], data: Path) -> int:
    """Restore a data folder, whole or not at all; returns the number of files.

    Raises
    ------
    PackError
        A piece is missing, damaged, of another set, or names a file outside of the folder.
    FileExistsError
        The folder is there already.
    """
    if data.exists():
        raise FileExistsError(f"{data} exists already; name a new folder")
    work = data.with_name(data.name + ".part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        manifests = [_extract(piece, work) for piece in tqdm(pieces, unit="piece", disable=None)]
        count = _check(manifests, work)
        work.rename(data)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return count


def _extract(piece: Path, folder: Path) -> dict[str, Any]:
    """Extract one piece and return its manifest; nothing may leave the folder (tarfile's data filter, PEP 706)."""
    try:
        with tarfile.open(piece, "r:") as tar:
            members = tar.getmembers()
            if not members or not all(member.isfile() and _is_below(member.name) for member in members):
                raise PackError(f"{piece.name} holds something else than files below one folder")
            tar.extractall(folder, filter="data")
        manifest = folder / members[-1].name
        content: dict[str, Any] = json.loads(manifest.read_text())
        manifest.unlink()
    except (tarfile.TarError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise PackError(f"{piece.name} is damaged or no piece of data ({type(error).__name__}: {error})") from error
    if content.keys() != {"piece", "pieces", "files"} or {m.name for m in members[:-1]} != content["files"].keys():
        raise PackError(f"{piece.name} holds other files than its manifest says")
    return content


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _check(manifests: Sequence[dict[str, Any]], folder: Path) -> int:
    """Compare numbers of pieces and checksums of all files; returns how many files there are."""
    numbers, wanted = sorted(manifest["piece"] for manifest in manifests), manifests[0]["pieces"] if manifests else 0
    if not numbers or numbers != list(range(1, wanted + 1)):
        raise PackError(f"pieces {numbers} are there; {wanted or 'some'} are needed, each once")
    files = {name: digest for manifest in manifests for name, digest in manifest["files"].items()}
    for name, digest in files.items():
        if hashlib.sha256((folder / PurePosixPath(name)).read_bytes()).hexdigest() != digest:
            raise PackError(f"{name} does not match its SHA-256")
    return len(files)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the data folder: to be packed, or to be made")
    parser.add_argument("--out", type=Path, help="folder for the pieces")
    parser.add_argument("--unpack", type=Path, nargs="+", metavar="PIECE", help="pieces to restore the folder from")
    parser.add_argument("--piece-mib", type=int, default=PIECE_MIB, help="the most MiB of a piece")
    parser.add_argument("--longest-side", type=int, help="reduce larger pictures to so many pixels")
    given = parser.parse_args()
    if (given.out is None) is (given.unpack is None):
        parser.error("give --out to pack or --unpack to restore")
    try:
        if given.unpack:
            print(f"{unpack(given.unpack, given.data)} files in {given.data}, checksums right")
            return
        content = reduced(given.data, given.longest_side) if given.longest_side else entries(given.data)
        for piece in pack(iter(tqdm(content, unit="file", disable=None)), given.out, given.piece_mib * MIB):
            print(f"{piece} {piece.stat().st_size} bytes")
    except (PackError, OSError) as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
