"""Measuring a bundle end to end, with a tiny one: the training's command and the operator's."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from models.analyzer import Analyzer
from models.bundle import load_bundle
from models.types import ImageError
from tests.builders import build_dx, part10_bytes, uid, write_part10
from tests.bundles import tiny_manifest, write_manifest, write_tiny_bundle
from tests.training_data import write_data
from training.data.dataset import load
from training.evaluate import evaluate, predictions
from worker.cli import evaluate as command
from worker.cli.root import app
from worker.files.evaluate import Recorder

IMAGES = 8


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled") / "data"
    write_data(folder, train=2, valid=IMAGES)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BONEWATCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BONEWATCH_DEVICE", "cpu")


def python_m_evaluate(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, arguments)])
    evaluate.main()


def bonewatch(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def write_labels(path: Path, *rows: dict[str, object]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    return path


def radiograph(path: Path, seed: int, **attributes: object) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 4095, (80, 60), dtype=np.uint16)
    return write_part10(build_dx(pixels=pixels, instance=path.stem, **attributes), path)


def test_the_training_s_command_writes_figures_plots_and_predictions(
    data: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ["--bundle", bundle, "--data", data, "--out", tmp_path / "result.json"]

    python_m_evaluate(monkeypatch, *where, "--plots", tmp_path / "plots", "--predictions", tmp_path / "said.json")

    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["kind"], result["split"], result["bundle"]) == ("evaluation", "valid", load_bundle(bundle).version)
    assert result["whole_files"]["images"] == IMAGES
    assert result["whole_files"]["boxes"]["boxes"] == IMAGES // 2
    assert set(result["whole_files"]["by_body_part"]) == {"hand", "leg", "hip", "shoulder"}
    assert result["cost"]["peak_memory_mib"] > 100
    assert str(tmp_path) not in json.dumps(result)
    assert (tmp_path / "plots" / "free_response.png").exists()
    said = json.loads((tmp_path / "said.json").read_text())
    assert [image["name"] for image in said["images"]] == [item.name for item in load(data, "valid")]


def test_kept_predictions_need_no_network_and_give_the_same_figures(
    data: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, radiographs, kept = load_bundle(bundle), load(data, "valid"), tmp_path / "said.json"
    first = evaluate.evaluate(loaded, radiographs, kept)

    def refuse(*_: object) -> None:
        raise AssertionError("the networks were asked again")

    monkeypatch.setattr(evaluate, "predict", refuse)
    again = evaluate.evaluate(loaded, radiographs, kept)

    assert again == first


def test_predictions_of_other_networks_or_images_are_refused(data: Path, bundle: Path, tmp_path: Path) -> None:
    loaded, kept = load_bundle(bundle), tmp_path / "said.json"
    radiographs = load(data, "valid")
    evaluate.evaluate(loaded, radiographs[:2], kept)

    with pytest.raises(ValueError, match="lacks 6 of 8 images"):
        evaluate.evaluate(loaded, radiographs, kept)
    cascade = loaded.manifest.model_copy(update={"detector_from_logit": 0.0})
    with pytest.raises(ValueError, match="other networks"):
        evaluate.evaluate(replace(loaded, manifest=cascade), radiographs[:2], kept)


def test_a_new_calibration_is_of_the_same_networks(bundle: Path) -> None:
    manifest = load_bundle(bundle).manifest
    calibration = manifest.calibration.model_copy(update={"intercept": 1.0})

    recalibrated = manifest.model_copy(update={"calibration": calibration})

    assert recalibrated.version != manifest.version
    assert predictions.networks_digest(recalibrated) == predictions.networks_digest(manifest)


def test_truncated_files_are_measured_apart(data: Path, bundle: Path) -> None:
    loaded = load_bundle(bundle)
    radiographs = load(data, "valid")
    radiographs[0] = replace(radiographs[0], truncated=True)

    figures = evaluate.evaluate(loaded, radiographs)

    assert figures["whole_files"]["images"] == IMAGES - 1
    assert figures["with_truncated_files"]["images"] == IMAGES
    assert "curves" not in figures["with_truncated_files"]


def test_bonewatch_evaluate_says_what_the_training_says(data: Path, bundle: Path, tmp_path: Path) -> None:
    labels, boxes = data / "labels.csv", data / "boxes_valid.json"
    expected = evaluate.evaluate(load_bundle(bundle), load(data, "valid"))["whole_files"]
    options = ["--truth", labels, "--boxes", boxes, "--split", "valid", "--bundle", bundle]

    result = bonewatch(data / "images", *options, "--out", tmp_path / "out", "--json")

    assert result.exit_code == 0
    told = json.loads(result.stdout)
    for name in ("images", "auc", "auc_95", "low", "high", "boxes", "by_body_part", "decisions", "curves"):
        assert told["figures"][name] == json.loads(json.dumps(expected[name])), name
    assert told["not_measured"]["labels_of_other_splits"] == 2
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == told
    assert (tmp_path / "out" / "roc.png").exists()


def test_the_table_shows_figures_and_what_was_left_out(data: Path, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes((data / "images" / "valid1.png").read_bytes()[:2000])
    rows = [{"file_name": f"valid{number}.png", "fractured": number % 2} for number in range(IMAGES)]
    rows += [{"file_name": "cut.png", "fractured": 1}, {"file_name": "gone.png", "fractured": 1}]

    result = bonewatch(data / "images", tmp_path / "cut.png", "--truth", write_labels(tmp_path / "l.csv", *rows),
                       "--bundle", bundle)  # fmt: skip

    assert result.exit_code == 1
    assert "8 (4)" in result.stdout
    for words in ("1 failed, and counted as neither", "1 labels without a file", "gone.png", "2 files without a label"):
        assert words in result.stdout
    assert "mAP50" not in result.stdout, "nobody has drawn a box"


def test_a_failed_file_is_no_negative(data: Path, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes((data / "images" / "valid0.png").read_bytes()[:2000])
    labels = write_labels(tmp_path / "l.csv", {"file_name": "cut.png", "fractured": "no"})

    result = bonewatch(tmp_path / "cut.png", "--truth", labels, "--bundle", bundle, "--json")

    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert (told["measured"], told["figures"]) == (0, None)
    assert [entry["path"] for entry in told["not_measured"]["failed"]] == [str(tmp_path / "cut.png")]


def test_dicom_files_are_found_by_uid_and_grouped_by_their_header_s_patient(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dicom"
    folder.mkdir()
    rows = []
    for number in range(4):
        radiograph(folder / f"{number}.dcm", number, PatientID=f"SECRET{number // 2}", BodyPartExamined="HAND")
        rows.append({"sop_instance_uid": uid("study", "series", str(number)), "fractured": number % 2})

    result = bonewatch(folder, "--truth", write_labels(tmp_path / "l.csv", *rows), "--bundle", bundle, "--json")

    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)["figures"]
    assert (told["images"], told["fractured"], told["patients"]) == (4, 2, 2)
    assert told["by_body_part"]["hand"]["images"] == 4
    assert "SECRET" not in result.output


def test_out_of_scope_files_are_listed_and_do_not_count(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dicom"
    folder.mkdir()
    radiograph(folder / "chest.dcm", 0, BodyPartExamined="CHEST")
    radiograph(folder / "hand.dcm", 1, BodyPartExamined="HAND")
    labels = [{"file_name": f"{name}.dcm", "fractured": 1} for name in ("chest", "hand")]

    result = bonewatch(folder, "--truth", write_labels(tmp_path / "l.csv", *labels), "--bundle", bundle, "--json")

    told = json.loads(result.stdout)
    assert (result.exit_code, told["measured"], told["figures"]["auc"]) == (0, 1, None)
    assert "CHEST" in told["not_measured"]["out_of_scope"][0]["reason"]


def test_a_multi_frame_image_is_judged_once_by_its_gravest_frame(bundle: Path, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 4095, (3, 80, 60), dtype=np.uint16)
    (tmp_path / "three.dcm").write_bytes(part10_bytes(build_dx(pixels=frames)))
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (80, 60), dtype=np.uint8)).save(tmp_path / "one.png")
    rows = [{"file_name": "three.dcm", "fractured": 1}, {"file_name": "one.png", "fractured": 0}]
    boxes = {"images": [{"id": 1, "file_name": "three.dcm"}], "annotations": [{"image_id": 1, "bbox": [5, 5, 9, 9]}]}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    labels = write_labels(tmp_path / "l.csv", *rows)

    result = bonewatch(tmp_path, "--truth", labels, "--boxes", tmp_path / "boxes.json", "--bundle", bundle, "--json")

    told = json.loads(result.stdout)
    assert (told["figures"]["images"], told["figures"]["boxes"]) == (2, None)
    assert told["not_measured"]["multi_frame_images_left_out_of_box_figures"] == [str(tmp_path / "three.dcm")]


def test_a_box_outside_its_image_is_told(data: Path, bundle: Path, tmp_path: Path) -> None:
    coco = json.loads((data / "boxes_valid.json").read_text())
    coco["annotations"][0]["bbox"] = [90, 10, 30, 20]
    (tmp_path / "boxes.json").write_text(json.dumps(coco))

    result = bonewatch(data / "images", "--truth", data / "labels.csv", "--split", "valid", "--bundle", bundle,
                       "--boxes", tmp_path / "boxes.json", "--json")  # fmt: skip

    outside = json.loads(result.stdout)["not_measured"]["boxes_outside_their_image"]
    assert [Path(path).name for path in outside] == ["valid1.png"]


def test_boxes_are_those_of_the_upright_picture_and_turned_ones_are_told(bundle: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (80, 60), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "lying.png", exif=exif)  # 80 columns, 60 rows for who looks at it
    boxes = {"images": [{"id": 1, "file_name": "lying.png"}], "annotations": [{"image_id": 1, "bbox": [62, 5, 15, 9]}]}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    labels = write_labels(tmp_path / "l.csv", {"file_name": "lying.png", "fractured": 1})

    result = bonewatch(tmp_path, "--truth", labels, "--boxes", tmp_path / "boxes.json", "--bundle", bundle, "--json")

    told = json.loads(result.stdout)["not_measured"]
    assert told["boxes_outside_their_image"] == []
    assert told["boxes_taken_as_drawn_on_the_upright_picture"] == [str(tmp_path / "lying.png")]


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([{"file_name": "valid0.png", "broken": 1}], [], "no column fractured"),
        ([{"file_name": "valid0.png", "fractured": "perhaps"}], [], "line 2: fractured is none of"),
        ([{"file_name": "other.png", "fractured": 1}], [], "none of 1 labels fits a file"),
        (
            [{"file_name": "valid0.png", "fractured": 1, "split": "a"}],
            ["--split", "b"],
            "no line of split b (there: a)",
        ),
    ],
)
def test_labels_that_cannot_be_used_are_wrong_use(
    rows: list[dict[str, object]], options: list[str], words: str, data: Path, tmp_path: Path
) -> None:
    labels = write_labels(tmp_path / "labels.csv", *rows)

    result = bonewatch(data / "images", "--truth", labels, *options)

    assert result.exit_code == 2
    assert words in result.stderr


def test_a_name_that_fits_two_files_must_be_a_path(data: Path, bundle: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_bytes((data / "images" / "valid0.png").read_bytes())
    by_name = write_labels(tmp_path / "name.csv", {"file_name": "x.png", "fractured": 1})
    by_path = write_labels(tmp_path / "path.csv", {"file_name": "b/x.png", "fractured": 1})

    assert "fits 2 files" in bonewatch(tmp_path, "--truth", by_name, "--bundle", bundle).stderr
    told = json.loads(bonewatch(tmp_path, "--truth", by_path, "--bundle", bundle, "--json").stdout)
    assert told["measured"] == 1
    assert told["not_measured"]["files_without_label"] == [str(tmp_path / "a" / "x.png")]


def test_a_missing_extra_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "TRAINING_EXTRA", ("matplotlib", "a_package_that_is_not_there"))

    result = bonewatch(tmp_path, "--truth", tmp_path / "labels.csv")

    assert result.exit_code == 3
    assert "a_package_that_is_not_there" in result.stderr
    assert "bonewatch[training]" in result.stderr


@pytest.mark.parametrize("boxes", [None, {"intercept": 0.5, "score_weight": 0.7, "classifier_weight": 0.2}])
def test_the_recorder_answers_as_the_product_does(boxes: dict[str, float] | None, data: Path, tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle")
    content = tiny_manifest(folder)
    content["calibration"]["boxes"] = boxes
    write_manifest(folder, content)
    loaded, item = load_bundle(folder), load(data, "valid")[1]
    analyzer = Analyzer(loaded, "cpu")

    recorder = Recorder(analyzer, item)
    with pytest.raises(ImageError):
        recorder.analyze(np.zeros((40, 40), np.float32))
    recorded = recorder.analyze(item.pixels())

    said = analyzer.analyze(item.pixels())
    assert said.boxes
    assert replace(recorded, seconds=said.seconds) == said
    assert list(recorder.predictions) == [2], "a frame that was refused keeps its number"
    assert (recorder.predictions[2].logit, recorder.predictions[2].boxes) == analyzer.candidates(item.pixels())
