"""What `analyze --out` writes beside each other: each file's report, its companions, and a PNG to look at."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dicom_io.errors import ReportError
from dicom_io.report.drawing import mark_image, marks_of
from dicom_io.report.structured_report import ReportContent, build_report
from dicom_io.types import Algorithm, Outcome
from worker.db.tables import OBJECT_NAMES
from worker.files.analyze import FileResult, file_digest, local_now, reported_images
from worker.study.companions import BuiltCompanion, CompanionRule, Pictures, build_companions
from worker.study.outcomes import reported

COMPANIONS = CompanionRule(marked_image="always", presentation_state=True)
SUFFIXES = {"capture": "sc", "presentation": "pr"}
ANALYSED = (Outcome.PRESENT, Outcome.INCONCLUSIVE, Outcome.ABSENT)


@dataclass
class Output:
    """A folder for reports and marked images; files of an earlier run are replaced.

    Names come from the files': `hand.dcm` gives `hand.png` and, as DICOM objects, `hand.sr.dcm` (the report),
    `hand.sc.dcm` (the marked image) and `hand.pr.dcm` (the presentation state, where there are boxes), below the same
    folders as where it was found. Further frames give `hand.sc-2.dcm`. Which name a file has among others of the same
    is said by `worker.files.candidates.output_names`.
    """

    folder: Path
    algorithm: Algorithm
    box_score: float

    def write(self, answer: FileResult, name: Path) -> str | None:
        """Write what there is to write for this answer under a name without suffix; a failed file gets nothing.

        Returns
        -------
        str or None
            Why the report or a companion is missing, in words, where there should be one.

        Raises
        ------
        OSError
            When the folder cannot be written to.
        """
        if answer.outcome not in ANALYSED:
            return None
        stem = self.folder / name
        stem.parent.mkdir(parents=True, exist_ok=True)
        _replace(stem.with_name(f"{stem.name}.png"), self._marked(answer))
        if answer.header is None:
            return None
        content = self._content(answer)
        try:
            report = build_report(content)
        except ReportError as error:
            return f"no report: {error}"
        _replace(stem.with_name(f"{stem.name}.sr.dcm"), report.part10)
        made = build_companions(content, report.reference, answer.pictures or Pictures(COMPANIONS))
        return _write_companions(stem, made)

    def _marked(self, answer: FileResult) -> bytes:
        if answer.frame is None or answer.pixels is None:
            raise ValueError("an answer without an image cannot be drawn")
        said = reported(answer.frame, answer.path)
        marks = marks_of(said, answer.model_version or "", answer.aspect, answer.frame.warnings)
        return mark_image(answer.pixels, marks)

    def _content(self, answer: FileResult) -> ReportContent:
        return ReportContent(
            images=reported_images(answer, self.box_score),
            outcome=answer.outcome,
            algorithm=self.algorithm,
            analysis_digest=file_digest(answer.path),
            model_version=self.algorithm.version,
            content_datetime=local_now(),
        )


def _write_companions(stem: Path, made: Iterable[BuiltCompanion]) -> str | None:
    missing = None
    for companion in made:
        if companion.report is None:
            missing = f"no {OBJECT_NAMES[companion.kind]}: {companion.reason}"
            continue
        number = "" if companion.number == 1 else f"-{companion.number}"
        suffix = SUFFIXES[companion.kind]
        _replace(stem.with_name(f"{stem.name}.{suffix}{number}.dcm"), companion.report.part10)
    return missing


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that its name only ever stands for a whole one."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)  # noqa: PTH105 - Path.replace is the same; this says which call is atomic
