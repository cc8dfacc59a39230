"""Folded groups of a report say what they are about, so that nobody has to open each."""

from __future__ import annotations

import re

import numpy as np

from dicom_io.report.outline import report_outline
from dicom_io.types import Outcome
from tests.builders import build_cr, build_dx, ramp
from tests.reporting import build_report, content_of, reported, stored
from worker.ui.report_tree import as_lists


def summaries(text):
    """Return the words of what is folded; none of them has markup of its own but for its name."""
    found = re.findall("<summary><strong>([^<]*)</strong>([^<]*)</summary>", text)
    assert len(found) == text.count("<summary>")
    return [name + said for name, said in found]


def groups_of(folder, *images):
    (folder / "report.dcm").write_bytes(build_report(content_of(*images)).part10)
    told = summaries(as_lists(report_outline(folder / "report.dcm")))
    return [words.removeprefix("Measurement Group: ") for words in told if words.startswith("Measurement Group")]


def test_groups_of_a_real_report_say_image_region_finding_and_probability(tmp_path):
    paths = [stored(build_cr(pixels=ramp(40, 60), instance=name), tmp_path, name) for name in "abc"]
    outcomes = (Outcome.PRESENT, Outcome.ABSENT, Outcome.FAILED)
    images = [reported(path, outcome) for path, outcome in zip(paths[1:], outcomes[1:], strict=True)]
    assert groups_of(tmp_path, reported(paths[0], Outcome.PRESENT, boxes=1), *images) == [
        "Image 1 of 3 (series 1, image 1, HAND PA R); Fracture: Present; Probability: 0.934",
        "Image 1 of 3 (series 1, image 1, HAND PA R): region 1 of 1; Finding: Fracture; Probability: 0.9",
        "Image 2 of 3 (series 1, image 1, HAND PA R); Fracture: Absent; Probability: 0.031",
        "Image 3 of 3 (series 1, image 1, HAND PA R); Summary of Analyses: Failed",
    ]


def test_groups_of_frames_name_the_frame(tmp_path):
    path = stored(build_dx(pixels=np.stack([ramp(40, 60)] * 2)), tmp_path)
    told = groups_of(tmp_path, *(reported(path, Outcome.ABSENT, frame=number) for number in (1, 2)))
    assert [re.findall(r"frame \d", words) for words in told] == [["frame 1"], ["frame 2"]]


def test_a_group_is_told_by_its_own_children_and_not_by_theirs():
    lines = ["Report", "  Groups", "    Group", "      Region", "        Probability: 0.1", "      Probability: 0.9"]
    assert summaries(as_lists(lines)) == ["Group: Probability: 0.9", "Region: Probability: 0.1"]


def test_markup_in_what_a_group_says_stays_text():
    lines = ["Report", "  Groups", "    Group", "      Tracking Identifier: <img src=x>", "      Probability: </b>"]
    assert summaries(as_lists(lines)) == ["Group: &lt;img src=x&gt;; Probability: &lt;/b&gt;"]
