"""The logic of `analyze` with a model that says what it is told."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.errors import BytesLengthException

from dicom_io.header.scope import ScopeRule
from dicom_io.pixels.frames import read_frames
from dicom_io.types import Algorithm, Frame, Outcome
from models.types import BundleError, Decision, ImageAnalysis, ImageError, ScoredBox
from tests.bad_input import filled_jpeg
from tests.builders import build_cr, build_dx, part10_bytes, ramp, uid, write_part10
from tests.product import ROOT
from worker.cli.analyze import _below
from worker.files.analyze import AnalysisContext, FileResult, analyze_file
from worker.files.candidates import Candidate, Kind, output_names, select
from worker.files.output import COMPANIONS, Output
from worker.study.analysis import FrameSource, analyse_frames

BOXES = (ScoredBox(1, 2, 11, 12, 0.9), ScoredBox(4, 4, 8, 8, 0.2))
VERSION = "2026-01-01-fake+00000000"


class FakeModel:
    version = VERSION

    def __init__(self, *analyses: ImageAnalysis | Exception) -> None:
        self.analyses = iter(analyses)

    def analyze(self, pixels: np.ndarray, minimum_score: float | None = None) -> ImageAnalysis:
        analysis = next(self.analyses)
        if isinstance(analysis, Exception):
            raise analysis
        threshold = 0.5 if minimum_score is None else minimum_score
        boxes = tuple(box for box in analysis.boxes if box.score >= threshold)
        return ImageAnalysis(analysis.probability, boxes, analysis.decision, analysis.seconds)


def says(decision: Decision, probability: float, *boxes: ScoredBox) -> ImageAnalysis:
    return ImageAnalysis(probability, boxes, decision, 0.1)


PRESENT = says(Decision.PRESENT, 0.9, *BOXES)
ABSENT = says(Decision.ABSENT, 0.1)


def analyze(path: Path, *analyses: ImageAnalysis | Exception, minimum_score: float | None = None) -> FileResult:
    [candidate] = select([path]).candidates
    model = FakeModel(*analyses)
    return analyze_file(candidate, AnalysisContext(lambda: model, ScopeRule(), minimum_score))


def picture(path: Path) -> Path:
    cv2.imwrite(str(path), (ramp(40, 60) >> 4).astype(np.uint8))
    return path


def three_frames() -> np.ndarray:
    return np.stack([ramp(40, 60), ramp(40, 60)[::-1], ramp(40, 60)[:, ::-1]])


def test_a_radiograph_gets_every_field_of_the_answer(tmp_path: Path) -> None:
    answer = analyze(write_part10(build_dx(pixels=ramp(40, 60)), tmp_path / "hand.dcm"), PRESENT).as_json()
    seconds = answer.pop("seconds")
    assert seconds >= 0
    assert json.loads(json.dumps(answer)) == {
        "path": str(tmp_path / "hand.dcm"),
        "sop_instance_uid": uid("study", "series", "instance"),
        "outcome": "present",
        "probability": 0.9,
        "boxes": [{"xyxy": [1, 2, 11, 12], "score": 0.9}],
        "model_version": VERSION,
    }


def test_a_picture_has_no_sop_instance_uid(tmp_path: Path) -> None:
    answer = analyze(picture(tmp_path / "hand.png"), ABSENT).as_json()
    assert (answer["sop_instance_uid"], answer["outcome"], answer["boxes"]) == (None, "absent", [])


def test_a_picture_that_was_turned_says_so_and_is_marked_upright(tmp_path: Path, output: Output) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray((ramp(60, 640) // 16).astype(np.uint8)).save(tmp_path / "a.jpg", exif=exif)

    answer = analyze(tmp_path / "a.jpg", PRESENT)
    output.write(answer, Path("a"))

    assert answer.as_json()["orientation"] == 8
    assert answer.pixels is not None
    assert answer.pixels.shape == (640, 60)
    assert cv2.imread(str(tmp_path / "out" / "a.png")).shape[0] > 640


def test_a_jpeg_picture_damaged_in_a_few_bytes_has_failed(tmp_path: Path) -> None:
    whole = (ROOT / "tests" / "data" / "field" / "plain.jpg").read_bytes()
    start = whole.index(b"\xff\xda") + 14
    escaped = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        place = int(random.integers(start, len(whole) - 200))
        damage = random.integers(0, 256, 50, dtype=np.uint8).tobytes()
        (tmp_path / "a.jpg").write_bytes(whole[:place] + damage + whole[place + 50 :])
        answer = analyze(tmp_path / "a.jpg", ABSENT)
        escaped += answer.outcome is not Outcome.FAILED

    assert escaped <= 1  # random bytes may be a sound codestream
    (tmp_path / "a.jpg").write_bytes(whole)
    assert analyze(tmp_path / "a.jpg", ABSENT).outcome is Outcome.ABSENT


def test_a_minimum_score_of_nought_keeps_every_candidate(tmp_path: Path) -> None:
    answer = analyze(picture(tmp_path / "hand.png"), PRESENT, minimum_score=0.0).as_json()
    assert [box["score"] for box in answer["boxes"]] == [0.9, 0.2]


def test_a_multi_frame_image_takes_its_gravest_frame_and_that_frame_s_boxes(tmp_path: Path) -> None:
    path = write_part10(build_dx(pixels=three_frames()), tmp_path / "three.dcm")
    inconclusive = says(Decision.INCONCLUSIVE, 0.5, ScoredBox(0, 0, 5, 5, 0.7))
    answer = analyze(path, ABSENT, inconclusive, ABSENT)
    assert answer.as_json()["outcome"] == "inconclusive"
    assert [box["xyxy"] for box in answer.as_json()["boxes"]] == [[0, 0, 5, 5]]
    assert answer.frame is not None
    assert answer.frame.frame_number == 2


def test_one_failed_frame_makes_an_otherwise_negative_image_failed(tmp_path: Path) -> None:
    path = write_part10(build_dx(pixels=three_frames()), tmp_path / "three.dcm")
    answer = analyze(path, ABSENT, ImageError("the image has one grey value only"), ABSENT).as_json()
    assert answer == {"path": str(path), "outcome": "failed", "reason": "the image has one grey value only"}


def test_a_positive_frame_outweighs_a_failed_one_and_the_failure_is_still_told(tmp_path: Path) -> None:
    path = write_part10(build_dx(pixels=three_frames()), tmp_path / "three.dcm")
    answer = analyze(path, PRESENT, ImageError("bad frame"), ABSENT).as_json()
    assert (answer["outcome"], answer["reason"]) == ("present", "bad frame")


def test_what_is_out_of_scope_says_why_and_needs_no_model(tmp_path: Path) -> None:
    path = write_part10(build_cr(BodyPartExamined="CHEST"), tmp_path / "chest.dcm")
    answer = analyze(path).as_json()
    assert answer["outcome"] == "out_of_scope"
    assert "CHEST" in answer["reason"]
    assert set(answer) == {"path", "outcome", "reason"}


def bad_files(folder: Path) -> Iterator[tuple[Path, str]]:
    whole = part10_bytes(build_dx(pixels=ramp(40, 60)))
    contents = {
        "cut.dcm": (whole[:-1000], "pixel"),
        "note.dcm": (b"A note, not an image." * 20, "DICM"),
        "empty.dcm": (b"", "DICM"),
        "bytes.bin": (bytes(range(256)), "neither"),
        "cut.png": (b"\x89PNG\r\n\x1a\n" + b"\0" * 20, "picture"),
        "nostudy.dcm": (part10_bytes(build_cr(StudyInstanceUID=None)), "StudyInstanceUID"),
    }
    for name, (content, word) in contents.items():
        (folder / name).write_bytes(content)
        yield folder / name, word
    yield folder / "missing.dcm", "no such file"
    (folder / "nothing").mkdir()
    yield folder / "nothing", "folder is empty"


def test_whatever_is_wrong_becomes_one_failed_line(tmp_path: Path) -> None:
    for path, word in bad_files(tmp_path):
        answer = analyze(path, PRESENT).as_json()
        assert set(answer) == {"path", "outcome", "reason"}, path.name
        assert answer["outcome"] == "failed"
        assert word in answer["reason"], (path.name, answer["reason"])
        assert "\n" not in answer["reason"]


def test_what_nobody_foresaw_in_one_file_is_one_failed_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(_: Path) -> Iterator[Frame]:
        raise BytesLengthException("SECRET")
        yield

    monkeypatch.setattr("worker.files.analyze.read_frames", raising)
    answer = analyze(write_part10(build_dx(pixels=ramp(40, 60)), tmp_path / "odd.dcm"), PRESENT)
    assert (answer.outcome, answer.reason) == (Outcome.FAILED, "unexpected error (BytesLengthException)")


def test_what_was_left_aside_of_a_file_is_in_the_answer(tmp_path: Path) -> None:
    ds = build_dx(pixels=np.stack([ramp(40, 60)] * 2), WindowCenter=[60000], WindowWidth=[0], NumberOfFrames=2)
    answer = analyze(write_part10(ds, tmp_path / "odd.dcm"), ABSENT, ABSENT).as_json()
    assert answer["warnings"] == ["Window Width 1 is smaller than the standard allows and was left aside"]
    assert _below(answer) == answer["warnings"]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.dcm")
    assert analyze(tmp_path / "pipe.dcm").reason == "not a regular file"


def test_a_refused_bundle_is_no_fault_of_the_file(tmp_path: Path) -> None:
    def refuse() -> FakeModel:
        raise BundleError("no bundle")

    candidate = Candidate(picture(tmp_path / "hand.png"), Kind.PICTURE)
    with pytest.raises(BundleError):
        analyze_file(candidate, AnalysisContext(refuse, ScopeRule()))


def test_a_folder_is_searched_in_order_and_other_files_are_counted(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    write_part10(build_cr(), tmp_path / "b" / "no-suffix")
    picture(tmp_path / "a.png")
    (tmp_path / "broken.dcm").write_text("text")
    for name in ("README.md", "truth.csv", "b/DICOMDIR"):
        (tmp_path / name).write_text("words")
    selection = select([tmp_path])
    names = [candidate.path.relative_to(tmp_path).as_posix() for candidate in selection.candidates]
    assert names == ["a.png", "broken.dcm", "b/no-suffix"]
    assert selection.skipped == 3


def test_a_file_in_a_folder_and_by_name_is_analysed_once(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    assert [each.path for each in select([path, tmp_path, path]).candidates] == [path]


def test_a_folder_of_other_files_only_has_failed(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("words")
    [candidate] = select([tmp_path]).candidates
    assert candidate.obstacle == "the folder holds no DICOM file and no picture (JPEG, PNG, TIFF, WebP)"


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(tmp_path / "out", Algorithm("fake", VERSION, "bonewatch", ("high = 0.5",)), box_score=0.5)


def test_out_holds_a_report_and_a_marked_image_of_a_dicom_file(tmp_path: Path, output: Output) -> None:
    path = write_part10(build_dx(pixels=ramp(40, 60)), tmp_path / "hand.dcm")
    assert output.write(analyze(path, PRESENT, minimum_score=0.0), Path(path.stem)) is None
    report = dcmread(tmp_path / "out" / "hand.sr.dcm")
    assert report.StudyInstanceUID == uid("study")
    regions = str(report).count("POLYLINE")
    assert regions == 1, "candidates below the bundle's threshold are no findings"
    assert cv2.imread(str(tmp_path / "out" / "hand.png")) is not None
    assert dcmread(tmp_path / "out" / "hand.sc.dcm").SourceImageSequence
    state = dcmread(tmp_path / "out" / "hand.pr.dcm")
    assert len(state.GraphicAnnotationSequence[0].GraphicObjectSequence) == 1


def test_a_marked_image_is_as_high_as_its_pixels_are(tmp_path: Path, output: Output) -> None:
    heights = []
    for name, spacing in (("square", [0.15, 0.15]), ("high", [0.3, 0.15])):
        path = write_part10(build_dx(pixels=ramp(40, 60), ImagerPixelSpacing=spacing), tmp_path / f"{name}.dcm")
        assert output.write(analyze(path, ABSENT), Path(path.stem)) is None
        heights.append(cv2.imread(str(tmp_path / "out" / f"{name}.png")).shape[0])
    assert heights[1] - heights[0] == pytest.approx(40 * 640 / 60, abs=1)


def test_out_holds_no_presentation_state_where_there_is_nothing_to_mark(tmp_path: Path, output: Output) -> None:
    path = write_part10(build_dx(pixels=ramp(40, 60)), tmp_path / "hand.dcm")
    assert output.write(analyze(path, ABSENT), Path(path.stem)) is None
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == ["hand.png", "hand.sc.dcm", "hand.sr.dcm"]


def test_out_holds_a_marked_image_only_of_a_picture(tmp_path: Path, output: Output) -> None:
    output.write(analyze(picture(tmp_path / "hand.png"), ABSENT), Path("hand"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["hand.png"]


def test_two_files_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        picture(tmp_path / folder / "hand.png")
    named = select([tmp_path / "a" / "hand.png", tmp_path / "b" / "hand.png"]).candidates
    assert output_names(named) == [Path("hand"), Path("hand-2")]
    assert output_names(select([tmp_path]).candidates) == [Path("a/hand"), Path("b/hand")]


def test_nothing_is_written_for_what_failed(tmp_path: Path, output: Output) -> None:
    (tmp_path / "note.dcm").write_text("text")
    output.write(analyze(tmp_path / "note.dcm"), Path("note"))
    assert not (tmp_path / "out").exists()


def test_no_name_is_left_half_written(tmp_path: Path, output: Output) -> None:
    output.write(FileResult(tmp_path / "x.dcm", Outcome.OUT_OF_SCOPE, "a reason"), Path("x"))
    output.write(analyze(picture(tmp_path / "hand.png"), PRESENT), Path("hand"))
    assert not list((tmp_path / "out").glob(".*"))


def test_output_lies_below_the_same_folders_as_its_files(tmp_path: Path, output: Output) -> None:
    (tmp_path / "in" / "a").mkdir(parents=True)
    picture(tmp_path / "in" / "a" / "hand.png")
    [candidate] = select([tmp_path / "in"]).candidates
    output.write(analyze(candidate.path, ABSENT), output_names([candidate])[0])
    assert (tmp_path / "out" / "a" / "hand.png").is_file()


def test_output_of_an_earlier_run_is_not_searched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    picture(tmp_path / "out" / "marked.png")
    path = picture(tmp_path / "hand.png")
    assert [each.path for each in select([tmp_path], leave_out=tmp_path / "out").candidates] == [path]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_with_a_pattern_that_is_repeated_is_not_analysed(orientation, tmp_path):
    path = tmp_path / "filled.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(io.BytesIO(filled_jpeg(200))) as picture:
        picture.save(path, quality="keep", exif=exif)

    answer = analyze(path, ABSENT).as_json()

    assert answer["outcome"] == "failed"
    assert "one pattern is repeated" in answer["reason"]


@pytest.mark.parametrize("error", [RuntimeError("SECRET"), ValueError("SECRET"), MemoryError()])
def test_a_model_that_breaks_on_one_file_ends_that_file_alone(tmp_path: Path, error: Exception) -> None:
    path = write_part10(build_dx(pixels=ramp(40, 60)), tmp_path / "odd.dcm")
    answer = analyze(path, error)
    assert (answer.outcome, answer.reason) == (Outcome.FAILED, f"unexpected error ({type(error).__name__})")
    assert analyze(picture(tmp_path / "next.png"), PRESENT).outcome is Outcome.PRESENT


def test_the_worker_and_analyze_say_the_same_of_the_same_frames(tmp_path: Path) -> None:
    path = write_part10(build_dx(pixels=three_frames()), tmp_path / "three.dcm")
    said: tuple[ImageAnalysis | Exception, ...] = (PRESENT, ImageError("bad frame"), ABSENT)
    model = FakeModel(*said)
    of_worker = tuple(each for each, _ in analyse_frames(read_frames(path), model.analyze, FrameSource(None, 3)))
    assert analyze(path, *said).frames == of_worker
    assert [each.outcome for each in of_worker] == [Outcome.PRESENT, Outcome.FAILED, Outcome.ABSENT]


def test_out_decodes_no_frame_twice(tmp_path: Path, output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_part10(build_dx(pixels=three_frames()), tmp_path / "three.dcm")
    [candidate] = select([path]).candidates
    model = FakeModel(PRESENT, ABSENT, PRESENT)
    answer = analyze_file(candidate, AnalysisContext(lambda: model, ScopeRule(), companions=COMPANIONS))
    monkeypatch.setattr("worker.study.companions.read_displayed", None)
    assert output.write(answer, Path("three")) is None
    assert len(list((tmp_path / "out").glob("three.sc*.dcm"))) == 2
