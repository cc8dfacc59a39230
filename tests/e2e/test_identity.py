"""An Orthanc as archive that does not keep what it was given as it was: other encodings from night to night.

Between two nights nothing of a study is here but rows. What comes back in other bytes is the same study all the same.
"""

from __future__ import annotations

import pytest
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless

from tests.archive_site import FIRST, SECOND, archive_site
from tests.builders import write_part10
from tests.peers import program, run

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(900)]

STUDIES = 4
CONTENTS = """
    SELECT sop_instance_uid, COALESCE(content_digest, digest) AS content, transfer_syntax_uid AS syntax
    FROM instances WHERE modality = 'DX' ORDER BY id
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with archive_site(tmp_path_factory.mktemp("identity"), STUDIES) as site:
        site.use("get")
        site.bonewatch.start("up", seconds=240)
        night(site)
        site.expect_one_each()
        yield site
        site.bonewatch.stop()


def night(site):
    """Run a re-analysis over the archive to its end."""
    ran = site.bonewatch.command("reanalyze", "--from", "archive", "--follow", seconds=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def encoded_anew(path, kind, folder):
    """Return a file with the same image in another encoding, made by DCMTK where it can."""
    other = folder / f"{kind}-{path.name}"
    if kind == "implicit":
        run(program("dcmconv"), "+ti", path, other)
    elif kind == "jpeg-ls":
        run(program("dcmcjpls"), "+un", path, other)
    else:
        ds = dcmread(path)
        ds.compress(JPEG2000Lossless, generate_instance_uid=False)
        write_part10(ds, other)
    return other


def test_an_archive_that_encodes_anew_between_two_nights_gets_every_study_answered(site, tmp_path):
    bonewatch, pacs = site.bonewatch, site.pacs
    images = pacs.instances("DX")
    before = bonewatch.rows(CONTENTS)
    for name, kind in zip(images, ("implicit", "jpeg-ls", "jpeg-2000", "implicit"), strict=True):
        path = pacs.download(name, tmp_path)
        other = encoded_anew(path, kind, tmp_path)
        assert dcmread(other).SOPInstanceUID == dcmread(path).SOPInstanceUID
        pacs.rest("DELETE", f"/instances/{name}")
        pacs.upload(other)

    site.install_second_model()
    night(site)

    site.expect_one_each((FIRST, SECOND))
    assert bonewatch.rows("SELECT * FROM rejections") == []
    after = bonewatch.rows(CONTENTS)
    assert {row["syntax"] for row in after} == {ImplicitVRLittleEndian, JPEGLSLossless, JPEG2000Lossless}
    assert [row["content"] for row in after] == [row["content"] for row in before], "an encoding is no other content"
    assert bonewatch.one("SELECT count(*) FROM replaced_instances") == STUDIES

    jobs = bonewatch.one("SELECT count(*) FROM jobs")
    pacs.push_everything()
    bonewatch.wait_until_committed(STUDIES)
    assert bonewatch.one("SELECT count(*) FROM jobs") == jobs, "nothing is analysed again for its encoding"
