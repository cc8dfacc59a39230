"""A site's labels and boxes, matched with the files to be analysed."""

from pathlib import Path

import pytest

from training.site.labels import BoxedImage, Label, SiteDataError
from worker.files.candidates import Candidate, Kind
from worker.files.labels import Truth, match


def test_boxes_of_one_file_under_its_path_and_its_name_are_refused() -> None:
    candidate = Candidate(Path("x/a.png"), Kind.PICTURE, name=Path("x/a.png"))
    boxed = [BoxedImage(key, None, ((1, 2, 3, 4),)) for key in ("a.png", "x/a.png")]

    with pytest.raises(SiteDataError, match="1 entries too many"):
        match([candidate], [Truth(Label(2, "a.png", True, None, ()))], boxed)
