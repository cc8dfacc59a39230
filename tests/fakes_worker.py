"""Stand-ins for what the worker works with: a model, a queue, a PACS and a store, each told when to fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dicom_io.pixels.frames import DisplayedFrame
from dicom_io.report.structured_report import BuiltObject, ReportContent
from dicom_io.send.sender import SendReceipt
from dicom_io.types import CommitmentReport, Destination, ReportReference, StoredFile
from dicom_io.uids import derive_uid
from models.types import Decision, ImageAnalysis, ImageError, ScoredBox
from worker.errors import QueueUnavailable

VERSION = "2026-03-01-first+01234567"
FRAME = DisplayedFrame(1, np.zeros((4, 4), np.float32))
PRESENT = ImageAnalysis(0.9, (ScoredBox(1.0, 2.0, 3.0, 4.0, 0.8),), Decision.PRESENT, 0.1)
INCONCLUSIVE = ImageAnalysis(0.4, (), Decision.INCONCLUSIVE, 0.1)
ABSENT = ImageAnalysis(0.05, (), Decision.ABSENT, 0.1)
SR_CLASS = "1.2.840.10008.5.1.4.1.1.88.34"
SC_CLASS = "1.2.840.10008.5.1.4.1.1.7"


@dataclass
class Script:
    """Answers in order, the last one for ever; an exception is raised, and a function called."""

    answers: list[object]

    def __call__(self, *arguments: object) -> object:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer(*arguments) if callable(answer) else answer


class FakeAnalyzer:
    """A model that answers what it is told."""

    name = "first"
    parameters = ("high operating point = 0.6",)
    batch_size = 1

    def __init__(self, *answers: object, version: str = VERSION) -> None:
        self.version = version
        self.calls = 0
        self._script = Script(list(answers) or [ABSENT])

    def analyze(self, pixels: object) -> ImageAnalysis:
        self.calls += 1
        return self._script(pixels)

    def explain(self, pixels: np.ndarray) -> np.ndarray:
        return np.zeros(pixels.shape, np.float32)

    def analyze_many(self, images: Sequence[object]) -> list[ImageAnalysis | ImageError]:
        answers = []
        for pixels in images:
            try:
                answers.append(self.analyze(pixels))
            except ImageError as error:
                answers.append(error)
        return answers


class FakeFrames:
    """`read_frames` by the file's name; one frame for what it was not told of. An exception ends the frames."""

    def __init__(self, **by_name: Sequence[object]) -> None:
        self.by_name = by_name

    def __call__(self, path: Path) -> Iterator[DisplayedFrame]:
        for item in self.by_name.get(path.stem, (FRAME,)):
            if isinstance(item, BaseException):
                raise item
            yield item


class FakeStore:
    """A store whose files are empty, and whose reports are kept in memory too."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.reports: dict[str, bytes] = {}
        self.fail: Callable[[], None] = lambda: None

    def path(self, relative: str) -> Path:
        return self.root / relative

    def is_empty(self) -> bool:
        return not self.root.is_dir() or not any(self.root.iterdir())

    def add(self, relative: str) -> None:
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def discard(self, stored: StoredFile) -> None:
        self.fail()
        self.path(stored.path).unlink(missing_ok=True)

    def put_report(self, part10: bytes, sop_instance_uid: str) -> StoredFile:
        self.fail()
        self.reports[sop_instance_uid] = part10
        relative = f"reports/{sop_instance_uid}.dcm"
        self.add(relative)
        return StoredFile(relative, "0" * 64, len(part10))


def fake_report(content: ReportContent) -> BuiltObject:
    """Build what stands for a report: its UID derives from the same words as a real one's."""
    uid = derive_uid(content.analysis_digest, content.model_version)
    return BuiltObject(ReportReference(SR_CLASS, uid, f"{uid[:50]}.1", "2.25.1"), repr(content).encode())


class FakeQueue:
    """A broker that can be down, and can be wiped."""

    def __init__(self) -> None:
        self.down = False
        self.jobs: list[tuple[int, str]] = []
        self.chunks = 0
        self.deliveries: list[int] = []

    def send_job(self, job_id: int, lane: str) -> None:
        self._require()
        self.jobs.append((job_id, lane))

    def send_chunk(self) -> None:
        self._require()
        self.chunks += 1

    def send_delivery(self, delivery_id: int) -> None:
        self._require()
        self.deliveries.append(delivery_id)

    def waiting(self, name: str) -> int:
        return self.lengths()[name]

    def lengths(self) -> dict[str, int]:
        self._require()
        lanes = Counter(lane for _, lane in self.jobs)
        return {"live": lanes["live"], "archive": lanes["archive"] + self.chunks, "control": len(self.deliveries)}

    def wipe(self) -> None:
        self.jobs.clear()
        self.chunks = 0
        self.deliveries.clear()

    def _require(self) -> None:
        if self.down:
            raise QueueUnavailable("the broker does not answer")


@dataclass
class FakePacs:
    """A PACS port. `sends`, `answers` and `finds` are scripts; what was asked is kept."""

    sends: Script = field(default_factory=lambda: Script([None]))
    answers: Script = field(default_factory=lambda: Script([None]))
    finds: Script = field(default_factory=lambda: Script([True]))
    sent: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def send_report(self, destination: Destination, report: Path, fallback: Callable[[], Path]) -> SendReceipt:
        self.sends(destination, report)
        self.sent.append(report.stem)
        return SendReceipt(ReportReference(SR_CLASS, report.stem, "2.25.7", "2.25.1"), 0)

    def send_companion(self, destination: Destination, companion: Path) -> SendReceipt:
        self.sends(destination, companion)
        self.sent.append(companion.stem)
        return SendReceipt(ReportReference(SC_CLASS, companion.stem, "2.25.8", "2.25.1"), 0)

    def request_commitment(
        self, destination: Destination, references: Sequence[ReportReference], transaction_uid: str, wait_seconds: float
    ) -> CommitmentReport | None:
        self.asked.append(transaction_uid)
        return self.answers(references, transaction_uid)

    def find_instance(self, destination: Destination, reference: ReportReference) -> bool:
        return self.finds(reference)


def commits(references: Sequence[ReportReference], transaction_uid: str) -> CommitmentReport:
    """Answer as a PACS that keeps everything."""
    return CommitmentReport(transaction_uid, tuple(each.sop_instance_uid for each in references))


def refuses(references: Sequence[ReportReference], transaction_uid: str) -> CommitmentReport:
    """Answer as a PACS that lost everything (0x0112, no such object instance)."""
    return CommitmentReport(transaction_uid, (), tuple((each.sop_instance_uid, 0x0112) for each in references))
