"""A site's own images, matched with its labels and boxes, and everything that is wrong with them in words.

Nothing is left out in silence: what hinders a training is a problem, what was left out or assumed is a note.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from training.data.dataset import Radiograph
from training.site.labels import Box, BoxedImage, Label

OWN = "own"  # the split of images that no split was chosen for yet
# A box that a drawing program rounded up ends less than a pixel outside.
ROUNDING = 1.0
ALONE = (
    "files taken for a patient each, nothing says whose they are; images of one patient in two parts would make the "
    "figures too good (give patient_id in the labels)"
)


@dataclass(frozen=True, slots=True)
class SitePicture:
    """An image that was read: `name` is its path below the folder, `path` where training reads it (a picture file).

    `rows` and `columns` are those of the upright picture; `orientation` is what the file says of its stored pixels
    (Exif, 1 is upright). `digest` is one of its pixels, equal for the same image in two files. `patient` and `study`
    are words from `Patients`, where the file itself names them.
    """

    name: str
    path: Path
    rows: int
    columns: int
    digest: str
    sop_instance_uid: str | None = None
    patient: str | None = None
    study: str | None = None
    orientation: int = 1

    @property
    def stored_size(self) -> tuple[int, int]:
        """Columns and rows of the file's pixels before they were turned."""
        return (self.rows, self.columns) if self.orientation > 4 else (self.columns, self.rows)


@dataclass(frozen=True, slots=True)
class Leniency:
    """With what a person says that it shall go on all the same."""

    skip_unreadable: bool = False
    skip_unmatched: bool = False
    clip_boxes: bool = False


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about the data that a person should know: what, and the files or lines it is about."""

    what: str
    names: tuple[str, ...] = ()
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Survey:
    """What can be trained on, what hinders it, and what was left out or assumed."""

    radiographs: tuple[Radiograph, ...]
    problems: tuple[Remark, ...]
    notes: tuple[Remark, ...]


class Patients:
    """Gives each patient a number in the order of coming; the hospital's own identifier is never written anywhere."""

    def __init__(self) -> None:
        self._words: dict[str, str] = {}

    def word(self, identifier: str) -> str:
        """Return the word for a patient: the same for the same identifier."""
        return self._words.setdefault(identifier, f"patient-{len(self._words) + 1:05d}")


class LabelMatching:
    """Finds the picture that a key of a label or a box means."""

    def __init__(self, pictures: Sequence[SitePicture]) -> None:
        self._known: dict[str, list[SitePicture]] = defaultdict(list)
        for picture in pictures:
            for key in {picture.name, picture.name.rpartition("/")[2], picture.sop_instance_uid} - {None}:
                self._known[str(key)].append(picture)

    def find(self, key: str) -> list[SitePicture]:
        """Return the pictures of a key: one where all is well; a whole path beats a name."""
        found = self._known.get(key.replace("\\", "/").removeprefix("./"), [])
        exact = [picture for picture in found if picture.name == key]
        return exact or found


class Surveyor:
    """Collects what is found in one pass over a site's data."""

    def __init__(self, pictures: Sequence[SitePicture], leniency: Leniency) -> None:
        self.pictures = pictures
        self.leniency = leniency
        self.matching = LabelMatching(pictures)
        self.problems: list[Remark] = []
        self.notes: list[Remark] = []

    def tell(self, what: str, names: Iterable[str], advice: str = "", *, lenient: bool = False) -> None:
        """Note a finding about something, if it is about anything: a problem, or a note where leniency was asked."""
        if listed := tuple(names):
            (self.notes if lenient else self.problems).append(Remark(what, listed, "" if lenient else advice))

    def match(self, keys: Iterable[str], table: str) -> dict[str, SitePicture]:
        """Match the keys of a table with pictures."""
        found = {key: self.matching.find(key) for key in keys}
        lenient = self.leniency.skip_unmatched
        advice = "correct the names, or go on without them: --skip-unmatched"
        self.tell(f"{table} without a file", (k for k, f in found.items() if not f), advice, lenient=lenient)
        several = [key for key, fitting in found.items() if len(fitting) > 1]
        self.tell(f"{table} that fit several files", several, "give the path below the folder instead of the name")
        return {key: fitting[0] for key, fitting in found.items() if len(fitting) == 1}

    def boxes(self, boxed: Sequence[BoxedImage]) -> dict[str, tuple[Box, ...]]:
        """Return the boxes by name of the picture, inside their images."""
        pictures = self.match((image.key for image in boxed), "boxed images")
        pairs = [(image, pictures[image.key]) for image in boxed if image.key in pictures]
        times = Counter(picture.name for _, picture in pairs)
        doubled = [name for name, number in times.items() if number > 1]
        self.tell("files that stand in the boxes twice", doubled, "give each file once, with all of its boxes")
        self.tell(
            "images of another size than their boxes are drawn for",
            (picture.name for image, picture in pairs if not _sizes_agree(image, picture)),
            "boxes must be in pixels of the files that are given, of a picture with an EXIF orientation of the upright "
            "one: correct boxes, width and height, or save the picture upright",
        )
        turned = [picture.name for image, picture in pairs if image.boxes_xyxy and picture.orientation != 1]
        self.tell(
            "pictures turned upright (EXIF); their boxes are taken as drawn on the upright one", turned, lenient=True
        )
        outside = [picture.name for image, picture in pairs if any(_outside(b, picture) for b in image.boxes_xyxy)]
        advice = "correct them, or clip them at the border: --clip-boxes"
        self.tell("images with boxes that leave them", outside, advice, lenient=self.leniency.clip_boxes)
        clipped = {picture.name: [_clip(box, picture) for box in image.boxes_xyxy] for image, picture in pairs}
        lost = [name for name, boxes in clipped.items() if any(x2 <= x1 or y2 <= y1 for x1, y1, x2, y2 in boxes)]
        self.tell("images with boxes that lie wholly outside", lost, "correct them")
        return {name: tuple(boxes) for name, boxes in clipped.items()}

    def unique(self, radiographs: list[Radiograph], digests: dict[str, str]) -> list[Radiograph]:
        """Leave out the second file of the same image; the same image in two patients would leak between splits."""
        groups: dict[str, list[Radiograph]] = defaultdict(list)
        for item in radiographs:
            groups[digests[item.name]].append(item)
        doubled = [group for group in groups.values() if len(group) > 1]
        self.tell(
            "images that are there twice, for two patients",
            (_joined(group) for group in doubled if len({item.patient for item in group}) > 1),
            "the same image must not be in two parts: remove one, or correct patient_id",
        )
        self.tell(
            "images that are there twice, with two labels",
            (_joined(group) for group in doubled if len({item.fractured for item in group}) > 1),
            "remove the wrong one",
        )
        self.tell("files left out, the same image is there already", map(_joined, doubled), lenient=True)
        return [max(group, key=lambda item: len(item.boxes_xyxy)) for group in groups.values()]


def survey(
    surveyor: Surveyor, labels: Sequence[Label] | None, boxed: Sequence[BoxedImage] | None, patients: Patients
) -> Survey:
    """Match pictures, labels and boxes.

    1. Boxes: matched, inside their images. Without labels, an image of the COCO file is fractured if it has a box.
    2. Labels: matched; an image without a fracture must not have a box.
    3. Patients: from the labels, else from the image's header, else its study; else each file is one of its own.
    4. The same image twice; one class only.
    """
    boxes = surveyor.boxes(boxed or ())
    said = _said(surveyor, labels, boxes)
    unlabelled = [picture.name for picture in surveyor.pictures if picture.name not in said]
    advice = "label them, or go on without them: --skip-unmatched"
    surveyor.tell("files without a label", unlabelled, advice, lenient=surveyor.leniency.skip_unmatched)
    drawn_normal = (name for name, label in said.items() if not label.fractured and boxes.get(name))
    surveyor.tell("images labelled as not fractured that have a box", drawn_normal, "correct the label or the box")
    found = [
        _radiograph(picture, said[picture.name], boxes.get(picture.name, ()), patients)
        for picture in surveyor.pictures
        if picture.name in said
    ]
    surveyor.tell(ALONE, (item.name for item in found if item.patient is None), lenient=True)
    found = [item if item.patient else replace(item, patient=f"file {item.name}") for item in found]
    found = surveyor.unique(found, {picture.name: picture.digest for picture in surveyor.pictures})
    _check_classes(surveyor, found)
    return Survey(tuple(found), tuple(surveyor.problems), tuple(surveyor.notes))


def _said(surveyor: Surveyor, labels: Sequence[Label] | None, boxes: dict[str, tuple[Box, ...]]) -> dict[str, Label]:
    """Return the label by name of the picture."""
    if labels is None:
        return {name: Label(0, name, bool(drawn), None, ()) for name, drawn in boxes.items()}
    found = surveyor.match(dict.fromkeys(label.key for label in labels), "labels")
    named = [(found[label.key].name, label) for label in labels if label.key in found]
    said: dict[str, Label] = {}
    differing = [name for name, label in named if _substance(said.setdefault(name, label)) != _substance(label)]
    advice = "name each file in one line"
    surveyor.tell("files of which two lines of the labels say different things", dict.fromkeys(differing), advice)
    return said


def _substance(label: Label) -> tuple[bool, str | None]:
    return label.fractured, label.patient_id


def _radiograph(picture: SitePicture, label: Label, boxes: tuple[Box, ...], patients: Patients) -> Radiograph:
    patient = patients.word(label.patient_id) if label.patient_id else picture.patient or picture.study
    return Radiograph(picture.name, picture.path, OWN, label.fractured, False, label.body_parts, boxes, patient=patient)


def _check_classes(surveyor: Surveyor, radiographs: Sequence[Radiograph]) -> None:
    counts = Counter(item.fractured for item in radiographs)
    if not radiographs:
        surveyor.problems.append(Remark("no image has both a readable file and a label"))
    elif len(counts) == 1:
        only = "fractured" if radiographs[0].fractured else "not fractured"
        advice = "a network learns a difference: images with and without a fracture are needed"
        surveyor.problems.append(Remark(f"one class only: all {len(radiographs)} images are {only}", (), advice))
    unboxed = [item.name for item in radiographs if item.fractured and not item.boxes_xyxy]
    surveyor.tell("fractured images without a box: they teach the classifier, not the detector", unboxed, lenient=True)


def _sizes_agree(image: BoxedImage, picture: SitePicture) -> bool:
    """Tell whether boxes were drawn on this picture; of one turned by a right angle the size says which way it lay."""
    if image.size is None or image.size == (picture.columns, picture.rows):
        return True
    return image.size == picture.stored_size and not image.boxes_xyxy


def _outside(box: Box, picture: SitePicture) -> bool:
    x1, y1, x2, y2 = box
    return min(x1, y1) < -ROUNDING or x2 > picture.columns + ROUNDING or y2 > picture.rows + ROUNDING


def _clip(box: Box, picture: SitePicture) -> Box:
    x1, x2 = (min(max(x, 0.0), float(picture.columns)) for x in box[::2])
    y1, y2 = (min(max(y, 0.0), float(picture.rows)) for y in box[1::2])
    return x1, y1, x2, y2


def _joined(group: Sequence[Radiograph]) -> str:
    return " = ".join(item.name for item in group)
