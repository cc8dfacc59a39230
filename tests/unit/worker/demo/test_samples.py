from pathlib import Path

import pytest

from tests.builders import build_cr, build_dx, uid, write_part10
from worker.demo.samples import read_samples
from worker.errors import StartRefused


def test_images_of_one_study_are_pushed_together_with_their_truth(tmp_path: Path) -> None:
    write_part10(build_cr(study="hand", instance="1"), tmp_path / "01-hand" / "a.dcm")
    write_part10(build_cr(study="hand", instance="2"), tmp_path / "01-hand" / "b.dcm")
    write_part10(build_dx(study="foot", BodyPartExamined="FOOT"), tmp_path / "02-foot" / "a.dcm")
    header = "path,study_instance_uid,sop_instance_uid,source_image,fractured,boxes_xyxy\n"
    rows = f"a,{uid('hand')},x,x,0,\nb,{uid('hand')},x,x,1,\n"
    (tmp_path / "truth.csv").write_text(header + rows)
    hand, foot = read_samples(tmp_path)
    assert (hand.name, len(hand.files), hand.body_part, hand.fractured) == ("01-hand", 2, "HAND", True)
    assert (foot.name, len(foot.files), foot.body_part, foot.fractured) == ("02-foot", 1, "FOOT", None)


def test_a_sample_that_is_no_dicom_is_named(tmp_path: Path) -> None:
    (tmp_path / "note.dcm").write_text("words")
    with pytest.raises(StartRefused, match=r"note\.dcm"):
        read_samples(tmp_path)


def test_the_samples_of_the_source_tree_are_found() -> None:
    assert len(read_samples(None)) >= 8
