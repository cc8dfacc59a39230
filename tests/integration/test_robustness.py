"""What is measured beside the trainings leaves one JSON file that says on what it was measured."""

import json
import sys

from tests.bundles import write_tiny_bundle
from tests.training_data import write_data
from training.experiments import robustness


def test_a_bundle_is_measured_under_every_change_and_the_file_says_on_what(tmp_path, monkeypatch):
    write_data(tmp_path / "data", train=4, valid=8)
    arguments = ["--data", tmp_path / "data", "--images", 4, "--out", tmp_path / "results"]
    arguments += ["--bundle", write_tiny_bundle(tmp_path / "bundle")]
    monkeypatch.setattr(sys, "argv", ["robustness", *map(str, arguments)])

    robustness.main()

    (path,) = (tmp_path / "results").iterdir()
    found = json.loads(path.read_text())
    table = found["metrics"]["changes"]
    assert table.keys() == robustness.CHANGES.keys()
    assert table["unchanged"]["median_probability_change"] == 0
    assert table["noise"]["median_probability_change"] > 0
    assert (found["kind"], found["name"]) == ("check", "robustness")
    assert {"title", "question", "method", "verdict", "commit", "environment", "seconds", "started"} <= found.keys()
    assert found["data"]["labels.csv"]
    assert str(tmp_path) not in json.dumps(found)
