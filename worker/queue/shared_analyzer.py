"""One model for several threads: they ask, the thread that owns it answers, several images as one batch."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.types import ImageAnalysis, ImageError
from worker.errors import EnvironmentUnfit
from worker.study.pipeline import StudyAnalyzer


@dataclass(frozen=True, slots=True)
class _Question:
    pixels: NDArray[np.float32]
    answer: Future[Any] = field(default_factory=Future)
    explain: bool = False


class SharedAnalyzer:
    """What each thread takes for its analyzer.

    The model itself is only ever used by the thread that calls `serve`: a device and torch's pool of threads belong to
    one thread. While it works on some images, the others read and decode the next ones.

    Parameters
    ----------
    analyzer : worker.study.pipeline.StudyAnalyzer
        The model.
    threads : int
        How many threads ask; each calls `leave` when it will ask no more.
    """

    def __init__(self, analyzer: StudyAnalyzer, threads: int) -> None:
        self._analyzer = analyzer
        self._threads = threads
        self._questions: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._closed = threading.Event()

    @property
    def name(self) -> str:
        """The bundle's name."""
        return self._analyzer.name

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self._analyzer.version

    @property
    def parameters(self) -> tuple[str, ...]:
        """The operating points and thresholds, a line each."""
        return self._analyzer.parameters

    @property
    def batch_size(self) -> int:
        """How many images are worth giving at once."""
        return self._analyzer.batch_size

    def analyze(self, pixels: NDArray[np.float32]) -> ImageAnalysis:
        """Analyse one frame, with those of other threads.

        Raises
        ------
        worker.errors.EnvironmentUnfit
            When nobody answers any more, because this worker is stopping.
        """
        analysis: ImageAnalysis = self._ask(_Question(pixels))
        return analysis

    def explain(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return where the classifier's answer for one frame comes from; errors as `analyze`."""
        heat: NDArray[np.float32] = self._ask(_Question(pixels, explain=True))
        return heat

    def _ask(self, question: _Question) -> Any:
        self._questions.put(question)
        if self._closed.is_set():
            question.answer.cancel()
        try:
            return question.answer.result()
        except CancelledError as error:
            raise EnvironmentUnfit("this worker was stopped while it analysed the study") from error

    def analyze_many(self, images: list[NDArray[np.float32]]) -> list[ImageAnalysis | ImageError]:
        """Analyse several frames, one by one: the threads make the batches."""
        answers: list[ImageAnalysis | ImageError] = []
        for pixels in images:
            try:
                answers.append(self.analyze(pixels))
            except ImageError as error:
                answers.append(error)
        return answers

    def leave(self) -> None:
        """Say that the calling thread will ask no more."""
        self._questions.put(None)

    def serve(self) -> None:
        """Answer until every thread has left."""
        try:
            while self._threads:
                self._answer(self._gather())
        finally:
            self._closed.set()
            self._cancel_all()

    def _gather(self) -> list[_Question]:
        """Wait for a question, and take those that wait with it."""
        gathered: list[_Question] = []
        while len(gathered) < self._analyzer.batch_size and self._threads:
            try:
                question = self._questions.get(block=not gathered)
            except queue.Empty:
                break
            if question is None:
                self._threads -= 1
            else:
                gathered.append(question)
        return gathered

    def _answer(self, questions: list[_Question]) -> None:
        for question in (each for each in questions if each.explain):
            try:
                question.answer.set_result(self._analyzer.explain(question.pixels))
            except Exception as error:  # noqa: BLE001 - it belongs to the thread that asked
                question.answer.set_exception(error)
        self._analyze([each for each in questions if not each.explain])

    def _analyze(self, questions: list[_Question]) -> None:
        if not questions:
            return
        try:
            answers = self._analyzer.analyze_many([question.pixels for question in questions])
        except Exception as error:  # noqa: BLE001 - it belongs to the thread that asked
            if len(questions) == 1:
                questions[0].answer.set_exception(error)
            else:
                # Somebody's image broke the batch: alone, it breaks nobody else's.
                for question in questions:
                    self._analyze([question])
            return
        for question, answer in zip(questions, answers, strict=True):
            if isinstance(answer, ImageError):
                question.answer.set_exception(answer)
            else:
                question.answer.set_result(answer)

    def _cancel_all(self) -> None:
        while not self._questions.empty():
            question = self._questions.get()
            if question is not None:
                question.answer.cancel()
