"""A site's labels, boxes and images: matched, and everything that is wrong with them said in words."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from training.data.dataset import Radiograph
from training.site.data import Leniency, Patients, SitePicture, Survey, Surveyor, survey
from training.site.labels import BoxedImage, Label, SiteDataError, read_boxes, read_labels
from training.site.split import PARTS, split_by_patient

LENIENT = Leniency(skip_unreadable=True, skip_unmatched=True, clip_boxes=True)


def picture(name: str, **known: str) -> SitePicture:
    return SitePicture(name, Path("images", name), 100, 80, known.pop("digest", name), **known)


def label(key: str, fractured: bool, patient: str | None = None) -> Label:
    return Label(2, key, fractured, patient, ())


def looked_at(
    pictures: list[SitePicture],
    labels: list[Label] | None,
    boxed: list[BoxedImage] | None = None,
    leniency: Leniency | None = None,
) -> Survey:
    return survey(Surveyor(pictures, leniency or Leniency()), labels, boxed, Patients())


def problems(found: Survey) -> list[str]:
    return [finding.what for finding in found.problems]


def notes(found: Survey) -> str:
    return "; ".join(finding.what for finding in found.notes)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


BOTH = [picture("a.png"), picture("b.png")]
BOTH_LABELS = [label("a.png", True), label("b.png", False)]
TWINS_LABELS = [label("a.png", True), label("b.png", True), label("c.png", False)]


# ---- the table of labels


def test_labels_are_read_by_name_with_words_for_yes_and_no(tmp_path: Path) -> None:
    table = written(tmp_path / "l.csv", "file_name, fractured ,patient_id,hand\na.png,1,P7,1\nb.png,No,,\n")

    first, second = read_labels(table)

    assert (first.key, first.fractured, first.patient_id, first.body_parts) == ("a.png", True, "P7", ("hand",))
    assert (second.key, second.fractured, second.patient_id, second.line) == ("b.png", False, None, 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file_name,broken\na.png,1\n", "no column fractured"),
        ("name,fractured\na.png,1\n", "no column file_name or sop_instance_uid"),
        ("file_name,fractured\na.png,maybe\n", "line 2: fractured is none of 1 or 0"),
        ("file_name,fractured\n,1\n", "line 2: file_name is empty"),
        ("file_name,fractured\na.png,1\na.png,0\n", "lines 2 and 3: a.png"),
        ("", "no column"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_the_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SiteDataError, match=words):
        read_labels(written(tmp_path / "labels.csv", text))


@pytest.mark.parametrize(
    "text",
    [
        "Miller^Anna,1970-01-01\nSmith^Jo,1980-02-02\n",
        "file_name,Miller^Anna\na.png,1\n",
        "file_name,fractured,patient_id\na.png,Miller^Anna,1970-01-01\nb.png,1,Smith^Jo\n",
    ],
)
def test_a_table_that_cannot_be_used_is_refused_without_what_its_cells_hold(tmp_path: Path, text: str) -> None:
    with pytest.raises(SiteDataError) as refused:
        read_labels(written(tmp_path / "labels.csv", text))

    assert not [word for word in ("Miller", "Smith", "1970", "1980") if word in str(refused.value)]


def test_what_is_no_table_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"\xff\xfe\x00broken")
    with pytest.raises(SiteDataError, match="not a CSV table"):
        read_labels(tmp_path / "labels.csv")


# ---- the boxes


def coco(path: Path, images: list[dict], annotations: list[dict]) -> Path:
    return written(path / "boxes.json", json.dumps({"images": images, "annotations": annotations}))


def test_boxes_become_corners_under_the_key_of_their_image(tmp_path: Path) -> None:
    path = coco(tmp_path, [{"id": 5, "file_name": "a.png"}], [{"image_id": 5, "bbox": [1, 2, 10, 20]}])

    assert read_boxes(path) == [BoxedImage("a.png", None, ((1.0, 2.0, 11.0, 22.0),))]


@pytest.mark.parametrize(
    ("images", "annotations", "words"),
    [
        ([{"id": 1, "file_name": "a"}], [{"image_id": 2, "bbox": [0, 0, 1, 1]}], "image_id 2"),
        ([{"id": 1}], [], "neither file_name nor sop_instance_uid"),
        ([{"id": 1, "file_name": "a"}], [{"image_id": 1, "bbox": [0, 0, 0, 1]}], "without area in a"),
        ([{"id": 1, "file_name": "a"}], [{"image_id": 1, "bbox": [0, 0, float("nan"), 1]}], "without area in a"),
        ([{"id": 1, "file_name": "a"}, {"id": 2, "file_name": "a"}], [], "2 images of the file a"),
        ([{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], [], "2 images of id 1"),
        ([{"id": 1, "file_name": "a"}], [{"image_id": 1, "bbox": [0, 0]}], "not in COCO form"),
        ([{"file_name": "a"}], [], "not in COCO form"),
    ],
)
def test_boxes_that_cannot_be_used_are_refused(
    tmp_path: Path, images: list[dict], annotations: list[dict], words: str
) -> None:
    with pytest.raises(SiteDataError, match=words):
        read_boxes(coco(tmp_path, images, annotations))


# ---- matching


def test_labels_and_boxes_find_their_image_by_path_by_name_and_by_uid() -> None:
    pictures = [picture("x/a.png"), picture("x/b.png"), picture("y/c.dcm", sop_instance_uid="1.2.3")]
    labels = [label("a.png", True), label("x/b.png", False), label("1.2.3", False)]

    found = looked_at(pictures, labels, [BoxedImage("x/a.png", (80, 100), ((1, 2, 30, 40),))])

    assert not found.problems
    assert [item.fractured for item in found.radiographs] == [True, False, False]
    assert found.radiographs[0].boxes_xyxy == ((1, 2, 30, 40),)


def test_a_name_that_fits_two_files_is_a_problem() -> None:
    found = looked_at([picture("x/a.png"), picture("y/a.png")], [label("a.png", True)])
    assert "labels that fit several files" in problems(found)


@pytest.mark.parametrize(
    "second", [label("x/a.png", False, "P1"), label("x/a.png", True, "P2")], ids=["fractured", "patient"]
)
def test_two_lines_that_contradict_each_other_about_one_file_are_a_problem(second: Label) -> None:
    found = looked_at([picture("x/a.png"), picture("b.png")], [label("a.png", True, "P1"), second, BOTH_LABELS[1]])
    assert problems(found) == ["files of which two lines of the labels say different things"]
    assert found.problems[0].names == ("x/a.png",)


def test_two_lines_that_say_the_same_of_one_file_are_one_image() -> None:
    labels = [label("a.png", True), label("x/a.png", True), label("b.png", False)]
    found = looked_at([picture("x/a.png"), picture("b.png")], labels)
    assert not found.problems
    assert len(found.radiographs) == 2


def test_boxes_of_one_file_under_its_path_and_its_name_are_a_problem() -> None:
    boxed = [BoxedImage(key, None, ((1, 2, 3, 4),)) for key in ("a.png", "x/a.png")]
    found = looked_at([picture("x/a.png"), picture("b.png")], [label("a.png", True), BOTH_LABELS[1]], boxed)
    assert problems(found) == ["files that stand in the boxes twice"]


def test_what_has_no_partner_is_a_problem_until_it_may_be_skipped() -> None:
    pictures = [*BOTH, picture("c.png")]
    labels = [*BOTH_LABELS, label("gone.png", True)]

    strict, lenient = looked_at(pictures, labels), looked_at(pictures, labels, leniency=LENIENT)

    assert problems(strict) == ["labels without a file", "files without a label"]
    assert not lenient.problems
    assert "labels without a file" in notes(lenient)
    assert len(lenient.radiographs) == 2


def test_boxes_alone_say_what_is_fractured() -> None:
    boxed = [BoxedImage("a.png", None, ((1, 2, 3, 4),)), BoxedImage("b.png", None, ())]
    assert [item.fractured for item in looked_at(BOTH, None, boxed).radiographs] == [True, False]


def test_a_box_in_an_image_labelled_normal_is_a_problem() -> None:
    found = looked_at(BOTH, BOTH_LABELS, [BoxedImage("b.png", None, ((1, 2, 3, 4),))])
    assert problems(found) == ["images labelled as not fractured that have a box"]


def test_a_box_that_leaves_its_image_is_a_problem_until_it_may_be_clipped() -> None:
    boxed = [BoxedImage("a.png", None, ((-20, 2, 30, 140),))]

    strict, lenient = looked_at(BOTH, BOTH_LABELS, boxed), looked_at(BOTH, BOTH_LABELS, boxed, LENIENT)

    assert strict.problems[0].what == "images with boxes that leave them"
    assert strict.problems[0].names == ("a.png",)
    assert lenient.radiographs[0].boxes_xyxy == ((0, 2, 30, 100),)


def test_a_box_wholly_outside_cannot_be_clipped() -> None:
    found = looked_at(BOTH, BOTH_LABELS, [BoxedImage("a.png", None, ((90, 2, 120, 40),))], LENIENT)
    assert "images with boxes that lie wholly outside" in problems(found)


def turned(name: str, orientation: int) -> SitePicture:
    return replace(picture(name), rows=60, columns=100, orientation=orientation)


def test_boxes_of_a_turned_picture_are_those_of_the_upright_one_and_are_named() -> None:
    found = looked_at([turned("a.png", 6), BOTH[1]], BOTH_LABELS, [BoxedImage("a.png", (100, 60), ((1, 2, 90, 40),))])

    assert problems(found) == []
    assert found.radiographs[0].boxes_xyxy == ((1, 2, 90, 40),)
    assert [note.names for note in found.notes if "upright" in note.what] == [("a.png",)]


def test_boxes_of_a_turned_picture_with_the_size_of_the_stored_one_are_a_problem() -> None:
    found = looked_at([turned("a.png", 6), BOTH[1]], BOTH_LABELS, [BoxedImage("a.png", (60, 100), ((1, 2, 3, 4),))])

    assert problems(found) == ["images of another size than their boxes are drawn for"]


def test_without_a_box_the_size_of_the_stored_picture_does_no_harm() -> None:
    boxed = [BoxedImage("a.png", None, ((1, 2, 3, 4),)), BoxedImage("b.png", (60, 100), ())]

    assert problems(looked_at([BOTH[0], turned("b.png", 8)], BOTH_LABELS, boxed)) == []


def test_boxes_drawn_on_an_image_of_another_size_are_a_problem() -> None:
    found = looked_at(BOTH, BOTH_LABELS, [BoxedImage("a.png", (800, 1000), ((1, 2, 3, 4),))])
    assert problems(found) == ["images of another size than their boxes are drawn for"]


def test_one_class_only_is_a_problem() -> None:
    found = looked_at(BOTH, [label("a.png", True), label("b.png", True)])
    assert problems(found) == ["one class only: all 2 images are fractured"]


# ---- patients


def test_a_patient_is_a_number_and_never_what_the_hospital_calls_it() -> None:
    labels = [label("a.png", True, "MRN-0815"), label("b.png", False, "MRN-0815")]

    found = looked_at(BOTH, labels)

    assert {item.patient for item in found.radiographs} == {"patient-00001"}
    assert "0815" not in repr(found)


def test_a_file_without_a_patient_is_one_of_its_own_and_that_is_said() -> None:
    found = looked_at(BOTH, BOTH_LABELS)
    assert len({item.patient for item in found.radiographs}) == 2
    assert "files taken for a patient each" in notes(found)


def test_the_same_image_in_two_patients_is_a_problem() -> None:
    twins = [picture("a.png", digest="d", patient="patient-1"), picture("b.png", digest="d", patient="patient-2")]
    found = looked_at([*twins, picture("c.png", patient="patient-3")], TWINS_LABELS)
    assert found.problems[0].what == "images that are there twice, for two patients"
    assert found.problems[0].names == ("a.png = b.png",)


def test_the_same_image_twice_in_one_patient_is_used_once() -> None:
    twins = [picture(name, digest="d", patient="p") for name in ("a.png", "b.png")]
    found = looked_at([*twins, picture("c.png", patient="q")], TWINS_LABELS)
    assert not found.problems
    assert len(found.radiographs) == 2
    assert "the same image is there already" in notes(found)


# ---- the split


def radiographs(patients: int, images: int = 2) -> list[Radiograph]:
    return [
        Radiograph(f"{p}-{i}.png", Path("x"), "own", p % 2 == 1, False, (), (), patient=f"patient-{p}")
        for p in range(patients)
        for i in range(images)
    ]


def test_no_patient_is_in_two_parts_and_every_image_is_in_one() -> None:
    split = split_by_patient(radiographs(60), seed=1)

    patients = [{item.patient for item in getattr(split, part)} for part in PARTS]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 60
    assert {part: counts["images"] for part, counts in split.counts().items()} == {
        "train": 72,
        "tune": 24,
        "held_back": 24,
    }
    assert {item.split for item in split.tune} == {"tune"}


def test_every_part_has_its_share_of_fractures() -> None:
    assert [counts["fractured"] for counts in split_by_patient(radiographs(60), 1).counts().values()] == [36, 12, 12]


def test_the_seed_alone_decides_the_split() -> None:
    images = radiographs(60)
    assert split_by_patient(images, 1) == split_by_patient(images[::-1], 1)
    assert split_by_patient(images, 1) != split_by_patient(images, 2)


def test_too_few_patients_are_refused_with_the_number_that_is_needed() -> None:
    with pytest.raises(SiteDataError, match=r"too few patients with a fracture: 10; .* at least 13"):
        split_by_patient(radiographs(20), 1)
