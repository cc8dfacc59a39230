"""A site whose past lies in an Orthanc: studies that were never pushed, and what a night has made of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from tests.builders import build_dx, ramp, write_part10
from tests.bundles import tiny_manifest, write_manifest, write_tiny_bundle
from tests.peers import LOOPBACK
from tests.product import Bonewatch
from tests.servers import Orthanc, orthanc

FIRST, SECOND, THIRD = "2026-01-01", "2026-02-02", "2026-03-03"
"""The dates, and so the beginnings of the versions, of three bundles."""
ANSWERED = "SELECT count(*) >= {} FROM jobs WHERE model_version LIKE :model AND state = 'done'"
FINISHED = "SELECT count(*) >= {} FROM reanalysis_runs WHERE state = 'finished'"
NO_FILE_HERE = "SELECT count(*) = 0 FROM instances WHERE file_deleted_at IS NULL"
_MADE = """
    SELECT j.study_id, count(DISTINCT j.id) AS jobs, count(r.id) AS reports
    FROM jobs j LEFT JOIN reports r ON r.job_id = j.id WHERE j.model_version LIKE :model GROUP BY j.study_id
"""


@dataclass
class ArchiveSite:
    """An Orthanc that holds `studies` of one image each, and a bonewatch that has none of them."""

    pacs: Orthanc
    bonewatch: Bonewatch
    bundle: Path
    studies: int

    def use(self, way: str) -> None:
        """Let studies come by C-GET, C-MOVE ('get', 'move') or 'dicomweb' from the next start on."""
        pacs = self.pacs
        dimse = {"ae_title": pacs.ae_title, "host": LOOPBACK, "port": pacs.dicom_port, "retrieve": way}
        archive: dict[str, Any] = {"url": pacs.dicomweb_url} if way == "dicomweb" else dimse
        self.bonewatch.settings["archive"] = {"name": "pacs", **archive}

    def install(self, date: str, **decision: float) -> None:
        """Replace the bundle by one of another version."""
        manifest = tiny_manifest(self.bundle) | {"date": date}
        manifest["decision"] |= decision
        write_manifest(self.bundle, manifest)

    def wait_for_answers(self, count: int, model: str = FIRST, seconds: float = 300) -> None:
        """Wait until a model has answered so many studies."""
        self.bonewatch.wait_for(ANSWERED.format(count), seconds, f"{count} answers of {model}", model=f"{model}%")

    def wait_for_runs(self, count: int, seconds: float = 300) -> None:
        """Wait until so many runs have finished."""
        self.bonewatch.wait_for(FINISHED.format(count), seconds, f"{count} runs have finished")

    def expect_one_each(self, models: tuple[str, ...] = (FIRST,)) -> None:
        """See that every study has one job and one committed report of each of these models, and left no file here."""
        self.bonewatch.wait_until_committed(self.studies, seconds=300)
        for model in models:
            made = self.bonewatch.rows(_MADE, model=f"{model}%")
            assert [(row["jobs"], row["reports"]) for row in made] == [(1, 1)] * self.studies, made
        assert self.bonewatch.one("SELECT count(*) FROM jobs WHERE lane = 'archive'") == len(models) * self.studies
        assert len(self.pacs.instances("SR")) == len(models) * self.studies
        unfinished = "SELECT run_id FROM v_reanalysis WHERE to_retrieve + retrieved + queued + failed > 0"
        assert self.bonewatch.rows(unfinished) == []
        self.bonewatch.wait_for(NO_FILE_HERE, 60, "no file of a retrieved study is here")
        assert list((self.bonewatch.home / "store" / "instances").rglob("*.dcm")) == []

    def expect_changes_listed(self) -> None:
        """See that `bonewatch changes` lists every study as newly suspected."""
        listed = self.bonewatch.command("changes", "--format", "json")
        assert listed.returncode == 0, listed.stderr
        outcomes = [(row["from_outcome"], row["to_outcome"]) for row in json.loads(listed.stdout)]
        assert outcomes == [("inconclusive", "present")] * self.studies


@contextmanager
def archive_site(folder: Path, studies: int, **settings: object) -> Iterator[ArchiveSite]:
    """Run the Orthanc and fill it; what was started of bonewatch is killed at the end."""
    bundle = write_tiny_bundle(folder / "bundle")
    pace = {"reanalysis_queries_a_minute": 6000, "reanalysis_retrievals_a_minute": 6000}
    bonewatch = Bonewatch(folder / "home", bundle=str(bundle), lease_seconds=4, **(pace | settings))
    with orthanc(folder / "pacs", bonewatch.port, dicomweb=True) as pacs:
        for number in range(studies):
            pacs.upload(write_part10(radiograph(number), folder / f"{number}.dcm"))
        bonewatch.settings["destinations"] = [pacs.destination()]
        try:
            yield ArchiveSite(pacs, bonewatch, bundle, studies)
        finally:
            bonewatch.kill()


def radiograph(number: int) -> Dataset:
    """Return the image of a study, each of another day of 2026."""
    day = f"2026{1 + number // 28:02d}{1 + number % 28:02d}"
    words = {"study": f"past-{number}", "instance": "image", "PatientID": f"TEST-{number}", "StudyDate": day}
    return build_dx(**words, pixels=ramp(120 + number, 160))
