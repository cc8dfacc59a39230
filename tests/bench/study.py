"""Processor time of a study beside the networks: decoding, SQL, report, marked image, heat map, presentation state.

    python -m tests.bench.study
    python -m tests.bench.study --turns 9

The model is a stand-in that always answers the same, so that only our own work counts. Of several turns the shortest is
printed. `plate` is a study of one image of 3000 by 2500 pixels in JPEG 2000, as detectors send them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import JPEG2000Lossless

from dicom_io.header.header import read_header
from dicom_io.pixels.frames import read_frames
from dicom_io.report.structured_report import build_report
from models.types import Decision, ImageAnalysis, ScoredBox
from tests.builders import build_dx, ramp, write_part10
from tests.databases import MORNING, Clock, a_study, an_instance, sqlite_database
from tests.fakes_worker import VERSION, FakeStore
from worker.demo.samples import SHIPPED
from worker.study import jobs
from worker.study.companions import CompanionRule
from worker.study.pipeline import Collaborators, ReportRule, analyse_study
from worker.study.studies import add_job, current_digest

EVERYTHING = CompanionRule("always", presentation_state=True, heat_map=True)


class StandIn:
    """Finds two boxes in every image; its heat maps are made before the clock runs."""

    name, version, parameters, batch_size = "stand-in", VERSION, (), 1

    def __init__(self, images: list[Path]) -> None:
        shapes = {frame.pixels.shape for image in images for frame in read_frames(image)}
        self._heat = {
            shape: np.linspace(0, 1, shape[0] * shape[1], dtype=np.float32).reshape(shape) for shape in shapes
        }

    def analyze(self, pixels: Any) -> ImageAnalysis:
        rows, columns = pixels.shape
        corners = ((0.2, 0.2, 0.5, 0.45, 0.8), (0.6, 0.5, 0.8, 0.9, 0.55))
        boxes = tuple(
            ScoredBox(x1 * columns, y1 * rows, x2 * columns, y2 * rows, score) for x1, y1, x2, y2, score in corners
        )
        return ImageAnalysis(0.9, boxes, Decision.PRESENT, 0.0, 0.85, 0.8)

    def explain(self, pixels: Any) -> Any:
        return self._heat[pixels.shape]

    def analyze_many(self, images: Any) -> list[ImageAnalysis]:
        return [self.analyze(pixels) for pixels in images]


def processor_milliseconds(images: list[Path], model: StandIn) -> float:
    """Receive one study in a database of its own, and measure its job."""
    with tempfile.TemporaryDirectory() as name:
        folder, clock = Path(name), Clock()
        database, store = sqlite_database(folder), FakeStore(folder / "store")
        with database.write() as session:
            study = a_study(session)
            for number, image in enumerate(images, start=1):
                store.add(f"instances/{number}.dcm")
                shutil.copy(image, store.path(f"instances/{number}.dcm"))
                an_instance(session, study, number, sop_instance_uid=read_header(image).sop_instance_uid)
            digest = current_digest(session, study.id)
            job = add_job(session, study.id, digest=digest, model_version=VERSION, lane="live", now=MORNING)
        parts = Collaborators(
            database=database,
            store=store,
            read_frames=read_frames,
            analyzer=model,
            build_report=build_report,
            manufacturer="bonewatch",
            destinations=("pacs",),
            rule=ReportRule(),
            clock=clock,
            companions=EVERYTHING,
        )
        held = jobs.claim(database, job, worker="bench", lease_seconds=60, now=clock())
        assert held is not None
        started = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            analyse_study(held, parts, lambda: None)
        spent = time.process_time() - started
        database.close()
    # A report, and a marked image and a presentation state of each image: otherwise something was not measured.
    assert len(store.reports) == 1 + 2 * len(images)
    return 1000 * spent


def plate(folder: Path) -> Path:
    """Write a large image in JPEG 2000."""
    noise = np.random.default_rng(1).integers(0, 64, (3000, 2500), dtype=np.uint16)
    ds = build_dx(pixels=np.minimum(ramp(3000, 2500) + noise, 4095).astype(np.uint16))
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    return write_part10(ds, folder / "plate.dcm")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=4)
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as folder:
        studies = {each.name: sorted(each.glob("*.dcm")) for each in sorted(SHIPPED.iterdir()) if each.is_dir()}
        studies["plate"] = [plate(Path(folder))]
        model = StandIn([image for images in studies.values() for image in images])
        best = {
            name: min(processor_milliseconds(images, model) for _ in range(turns)) for name, images in studies.items()
        }
    for name, milliseconds in best.items():
        print(f"{name}: {milliseconds:.0f} ms of the processor beside the networks")
    samples = [milliseconds for name, milliseconds in best.items() if name != "plate"]
    print(f"a sample study: {sum(samples) / len(samples):.0f} ms")


if __name__ == "__main__":
    main()
