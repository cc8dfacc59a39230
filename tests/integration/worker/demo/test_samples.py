"""The shipped sample studies are what their documentation says."""

import csv

import numpy as np
import pytest

from dicom_io.header.header import read_header
from dicom_io.header.scope import out_of_scope_reason
from dicom_io.pixels.frames import read_frames
from tests import peers
from tests.product import ROOT

SAMPLES = ROOT / "deploy" / "samples"
with (SAMPLES / "truth.csv").open(newline="") as stream:
    TRUTH = list(csv.DictReader(stream))
one_by_one = pytest.mark.parametrize("row", TRUTH, ids=[row["path"] for row in TRUTH])


@one_by_one
def test_a_sample_is_analysed_and_has_the_uids_of_its_truth(row):
    header = read_header(SAMPLES / row["path"])

    assert out_of_scope_reason(header) is None
    assert header.study_instance_uid == row["study_instance_uid"]
    assert header.sop_instance_uid == row["sop_instance_uid"]
    assert (SAMPLES / row["path"]).stat().st_size < 400_000


@one_by_one
def test_a_sample_decodes_to_a_radiograph_that_holds_its_boxes(row):
    (frame,) = read_frames(SAMPLES / row["path"])
    rows, columns = frame.pixels.shape
    boxes = [[float(corner) for corner in box.split()] for box in row["boxes_xyxy"].split(";") if box]

    assert min(rows, columns) >= 300
    # most of a picture of a limb is dark, and there is bone in it: a wrong polarity turns this round
    assert np.median(frame.pixels) < 0.6
    assert frame.pixels.max() > 0.9
    assert bool(boxes) == (row["fractured"] == "1")
    for x1, y1, x2, y2 in boxes:
        assert 0 <= x1 < x2 <= columns
        assert 0 <= y1 < y2 <= rows


@pytest.mark.peer
@one_by_one
def test_a_strict_validator_finds_no_error_in_a_sample(row):
    answer = peers.run("dciodvfy", SAMPLES / row["path"], expect=None)

    assert "Image" in answer.stderr  # the kind of object that it took the file for
    assert "Error" not in answer.stdout + answer.stderr


def test_truth_and_attribution_name_every_file():
    attribution = (SAMPLES / "ATTRIBUTION.md").read_text()
    files = {str(path.relative_to(SAMPLES)) for path in SAMPLES.rglob("*.dcm")}

    assert files == {row["path"] for row in TRUTH}
    assert "CC BY 4.0" in attribution
    for row in TRUTH:
        study, image = row["path"].removesuffix(".dcm").split("/")
        fracture = "yes" if row["fractured"] == "1" else "no"
        boxes = len([box for box in row["boxes_xyxy"].split(";") if box])
        (line,) = [line for line in attribution.splitlines() if line.startswith(f"| {study} | {image} |")]
        assert row["source_image"] in line
        assert line.endswith(f"| {fracture} | {boxes} |")


def test_the_samples_cover_what_sites_send():
    headers = [read_header(SAMPLES / row["path"]) for row in TRUTH]
    studies = {header.study_instance_uid for header in headers}

    assert len(studies) >= 8
    assert len(headers) > len(studies)
    assert {header.modality for header in headers} == {"CR", "DX", "RG"}
    assert {header.body_part_examined for header in headers} >= {"HAND", "LEG", "HIP", "SHOULDER"}
    assert "MONOCHROME1" in {header.photometric_interpretation for header in headers}
    assert "1.2.840.10008.1.2.4.90" in {header.transfer_syntax_uid for header in headers}
    assert len({row["fractured"] for row in TRUTH}) == 2
    assert None in {next(read_frames(SAMPLES / row["path"])).spacing_mm for row in TRUTH}
