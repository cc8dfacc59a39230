"""What only the PACS has: its studies come from an Orthanc in a night that is killed, again, and by every way.

Four studies, never pushed. Every minute begins a night, by C-GET: all is killed in the first, the second does nothing.
Another model sees them over DICOMweb, a third over C-MOVE: by then the Orthanc holds the images in other encodings.
"""

from __future__ import annotations

import pytest
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless

from tests.archive_site import FIRST, SECOND, THIRD, archive_site
from tests.builders import write_part10
from tests.peers import program, run

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(900)]

STUDIES = 4
SYNTAXES = {ImplicitVRLittleEndian, JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1}
CONTENTS = """
    SELECT sop_instance_uid, COALESCE(content_digest, digest) AS content, transfer_syntax_uid AS syntax
    FROM instances WHERE modality = 'DX' ORDER BY id
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The Orthanc and a bonewatch that asks it every night, and is given a study in two seconds at most."""
    night = {"reanalysis_crontab": "* * * * *", "reanalysis_sources": "archive"}
    pace = {"reanalysis_retrievals_a_minute": 30, "reanalysis_retrievals_at_once": 1}
    with archive_site(tmp_path_factory.mktemp("night"), STUDIES, **night, **pace) as site:
        yield site


def begin(site, way):
    """Start all of it, slow no more, with no night but those that are asked for."""
    site.bonewatch.settings["reanalysis_retrievals_a_minute"] = 6000
    site.use(way)
    site.bonewatch.start("up", seconds=240)


def ask(site):
    """Run a re-analysis over the archive to its end."""
    ran = site.bonewatch.command("reanalyze", "start", "--from", "archive", "--follow", seconds=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_night_answers_every_study_once_though_all_is_killed_and_the_next_does_nothing(site):
    bonewatch = site.bonewatch
    site.use("get")
    bonewatch.start("up", seconds=240)
    site.wait_for_answers(1)
    bonewatch.kill()
    assert bonewatch.one("SELECT count(*) FROM jobs WHERE state = 'done'") < STUDIES, "killed too late"

    begin(site, "get")
    site.wait_for_runs(1)
    site.expect_one_each()

    site.wait_for_runs(2)
    nights = bonewatch.rows("SELECT found, planned FROM reanalysis_runs ORDER BY id")
    assert nights[1] == {"found": STUDIES, "planned": 0}
    assert bonewatch.one("SELECT count(*) FROM jobs") == STUDIES
    bonewatch.stop()
    del bonewatch.settings["reanalysis_crontab"]


def test_another_model_sees_every_study_once_over_dicomweb_and_what_changed_is_listed(site):
    site.install(SECOND, low=0.01, high=0.02)
    begin(site, "dicomweb")
    ask(site)
    site.expect_one_each((FIRST, SECOND))
    site.expect_changes_listed()
    site.bonewatch.stop()


def test_an_archive_that_encodes_anew_gets_every_study_answered_by_the_next_model_over_c_move(site, tmp_path):
    bonewatch, pacs = site.bonewatch, site.pacs
    before = bonewatch.rows(CONTENTS)
    kinds = ("implicit", "jpeg-ls", "jpeg-2000", "jpeg-lossless")
    for name, kind in zip(pacs.instances("DX"), kinds, strict=True):
        path = pacs.download(name, tmp_path)
        other = encoded_anew(path, kind, tmp_path)
        assert dcmread(other).SOPInstanceUID == dcmread(path).SOPInstanceUID
        pacs.rest("DELETE", f"/instances/{name}")
        pacs.upload(other)

    site.install(THIRD)
    begin(site, "move")
    ask(site)

    site.expect_one_each((FIRST, SECOND, THIRD))
    assert bonewatch.rows("SELECT * FROM rejections") == []
    after = bonewatch.rows(CONTENTS)
    assert {row["syntax"] for row in after} == SYNTAXES
    assert [row["content"] for row in after] == [row["content"] for row in before], "an encoding is no other content"
    assert bonewatch.one("SELECT count(*) FROM replaced_instances") == STUDIES

    jobs = bonewatch.one("SELECT count(*) FROM jobs")
    pacs.push_everything()
    bonewatch.wait_until_committed(STUDIES)
    assert bonewatch.one("SELECT count(*) FROM jobs") == jobs, "nothing is analysed again for its encoding"
    bonewatch.stop()


def encoded_anew(path, kind, folder):
    """Return a file with the same image in another encoding, made by DCMTK where it can."""
    other = folder / f"{kind}-{path.name}"
    if kind == "implicit":
        run(program("dcmconv"), "+ti", path, other)
    elif kind == "jpeg-ls":
        run(program("dcmcjpls"), "+un", path, other)
    elif kind == "jpeg-lossless":
        run(program("dcmcjpeg"), "+e1", "+un", path, other)
    else:
        ds = dcmread(path)
        ds.compress(JPEG2000Lossless, generate_instance_uid=False)
        write_part10(ds, other)
    return other
