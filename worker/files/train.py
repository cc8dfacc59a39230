"""What `bonewatch train` reads: a site's files, decoded as the product decodes them, into pictures for training.

Training knows no DICOM: a decoded image becomes a 16-bit PNG in a work folder. Patient IDs go from the header into
`Patients`, which gives numbers, and nowhere else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_io.errors import DicomError, PixelModuleInvalid
from dicom_io.header.header import read_header
from dicom_io.header.scope import ScopeRule, out_of_scope_reason
from dicom_io.pixels.frames import read_frames
from dicom_io.types import InstanceHeader
from models.images import load_picture
from models.types import ImageError
from training.site.data import Leniency, Patients, Remark, SitePicture, Survey, Surveyor, survey
from training.site.labels import SiteDataError, read_boxes, read_labels
from worker.files.candidates import Candidate, Kind, Selection, select

Pixels = NDArray[np.float32]
# 16 bits keep every grey value of a 12-bit detector; PNG's own fastest compression.
WHITE = 65535
COMPRESSION = 1


@dataclass(frozen=True, slots=True)
class Tables:
    """The site's labels (CSV) and boxes (COCO JSON); one of them at least."""

    labels: Path | None
    boxes: Path | None


@dataclass(frozen=True, slots=True)
class ReadingContext:
    """What files are read with: the scope rule, a check of the pixels, the folder for decoded images (None: none)."""

    rule: ScopeRule
    check_pixels: Callable[[Pixels], Pixels]
    work: Path | None


class OutOfScope(Exception):
    """The product would not analyse this image, so it must not teach it either; the message says why."""


def find_files(folder: Path, leave_out: Path | None) -> Selection:
    """Find the images of a folder.

    Raises
    ------
    SiteDataError
        There is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise SiteDataError(f"{folder} is not a folder")
    selection = select([folder], leave_out)
    if len(selection.candidates) == 1 and selection.candidates[0].path == folder:
        raise SiteDataError(f"{folder}: {selection.candidates[0].obstacle}")
    return selection


def survey_site(
    candidates: Sequence[Candidate],
    tables: Tables,
    leniency: Leniency,
    context: ReadingContext,
    progress: Callable[[], None],
) -> Survey:
    """Read every file and both tables, and say what can be trained on and what cannot.

    Raises
    ------
    SiteDataError
        A table cannot be used.
    OSError
        A table cannot be read, or the work folder not be written to.
    """
    labels = read_labels(tables.labels) if tables.labels is not None else None
    boxed = read_boxes(tables.boxes) if tables.boxes is not None else None
    if labels is None and boxed is None:
        raise SiteDataError("neither labels nor boxes are given")
    patients = Patients()
    pictures: list[SitePicture] = []
    unreadable: list[str] = []
    others: list[str] = []
    for candidate in candidates:
        try:
            pictures.append(read_picture(candidate, context, patients))
        except OutOfScope as reason:
            others.append(f"{candidate.name.as_posix()}: {reason}")
        except (DicomError, ImageError) as error:
            unreadable.append(f"{candidate.name.as_posix()}: {' '.join(str(error).split())}")
        progress()
    surveyor = Surveyor(pictures, leniency)
    advice = "remove or repair them, or go on without them: --skip-unreadable"
    surveyor.tell("unreadable files", unreadable, advice, lenient=leniency.skip_unreadable)
    surveyor.tell("images left out, bonewatch would not analyse them", others, lenient=True)
    return survey(surveyor, labels, boxed, patients)


def read_picture(candidate: Candidate, context: ReadingContext, patients: Patients) -> SitePicture:
    """Decode one file.

    Raises
    ------
    OutOfScope
        The scope rule leaves it out.
    dicom_io.errors.DicomError, models.types.ImageError
        It cannot be read or analysed.
    """
    name = candidate.name.as_posix()
    if candidate.obstacle is not None:
        raise ImageError(candidate.obstacle)
    if candidate.kind is Kind.PICTURE:
        picture = load_picture(candidate.path)
        pixels = context.check_pixels(picture.pixels)
        rows, columns = pixels.shape
        digest = _digest(_sixteen_bits(pixels))
        return SitePicture(name, candidate.path, rows, columns, digest, orientation=picture.orientation)
    try:
        header = read_header(candidate.path)
        pixels = context.check_pixels(_only_frame(candidate.path, header, context.rule))
    except OSError as error:
        raise ImageError(f"the file cannot be read: {error.strerror}") from error
    grey = _sixteen_bits(pixels)
    digest = _digest(grey)
    return SitePicture(
        name=name,
        path=candidate.path if context.work is None else _write(grey, context.work / f"{digest[:32]}.png"),
        rows=pixels.shape[0],
        columns=pixels.shape[1],
        digest=digest,
        sop_instance_uid=header.sop_instance_uid,
        patient=patients.word(header.patient_id) if header.patient_id else None,
        study=patients.word(f"study {header.study_instance_uid}"),
    )


def _only_frame(path: Path, header: InstanceHeader, rule: ScopeRule) -> Pixels:
    reason = out_of_scope_reason(header, rule)
    if reason is not None:
        raise OutOfScope(reason)
    if header.number_of_frames != 1:
        raise PixelModuleInvalid(f"{header.number_of_frames} frames; a label is about one image")
    return next(read_frames(path)).pixels


def _sixteen_bits(pixels: Pixels) -> NDArray[np.uint16]:
    return np.rint(pixels * WHITE).astype(np.uint16)


def _digest(grey: NDArray[np.uint16]) -> str:
    return hashlib.sha256(repr(grey.shape).encode() + grey.tobytes()).hexdigest()


def _write(grey: NDArray[np.uint16], path: Path) -> Path:
    """Write a decoded image, whole or not at all, for our user alone: it is a patient's."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_suffix(".part")
        Image.fromarray(grey).save(temporary, format="PNG", compress_level=COMPRESSION)
        temporary.chmod(0o600)
        temporary.replace(path)
    return path


def words_of(findings: Sequence[Remark], shown: int) -> list[str]:
    """Put findings into lines: what and how many, the first names, what to do."""
    lines = []
    for finding in findings:
        number = f"{len(finding.names)} " if finding.names else ""
        lines.append(f"{number}{finding.what}")
        lines += [f"    {name}" for name in finding.names[:shown]]
        if len(finding.names) > shown:
            lines.append(f"    and {len(finding.names) - shown} more (--json lists all)")
        if finding.advice:
            lines.append(f"  what to do: {finding.advice}")
    return lines
