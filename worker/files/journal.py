"""`results.jsonl` in the folder of `analyze --out`: one line a file as soon as it is answered; `--resume` reads it.

A line stands for a file's outputs too, because it is written after them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_io.types import Outcome
from worker.files.candidates import Candidate

NAME = "results.jsonl"
KEPT = (Outcome.PRESENT, Outcome.INCONCLUSIVE, Outcome.ABSENT)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What an answer depends on beside its file: the model's version and the least score of the boxes listed."""

    model_version: str
    minimum_score: float | None


class Journal:
    """The lines of one folder; a new one replaces that of an earlier run unless it goes on with it."""

    def __init__(self, folder: Path, conditions: Conditions | None) -> None:
        """Open the journal; with `conditions` it goes on with the lines that were written under the same."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / NAME
        kept = [] if conditions is None else [line for line in _lines(path) if _holds(line, conditions)]
        self._earlier = {_key(line["file"]): line["answer"] for line in kept}
        temporary = path.with_name(f".{NAME}.tmp")
        temporary.write_text("".join(map(_as_line, kept)), encoding="utf-8")
        temporary.replace(path)
        self._file = path.open("a", encoding="utf-8")

    def earlier(self, candidate: Candidate) -> dict[str, Any] | None:
        """Return the answer that an interrupted run had for this very file, None where it has changed or failed."""
        return self._earlier.get(_key(_identity(candidate)))

    def add(self, candidate: Candidate, answer: dict[str, Any], minimum_score: float | None) -> None:
        """Write one line."""
        line = {"file": _identity(candidate), "minimum_score": minimum_score, "answer": answer}
        self._file.write(_as_line(line))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _identity(candidate: Candidate) -> dict[str, Any]:
    try:
        status = candidate.stored_in.stat()
    except OSError:
        return {"path": str(candidate.path.absolute()), "size": None, "modified_ns": None}
    return {"path": str(candidate.path.absolute()), "size": status.st_size, "modified_ns": status.st_mtime_ns}


def _key(identity: dict[str, Any]) -> tuple[str, Any, Any]:
    return identity["path"], identity["size"], identity["modified_ns"]


def _holds(line: dict[str, Any], conditions: Conditions) -> bool:
    """Tell an answer that can stand; what failed or is out of scope is quickly asked again, with the rules of today."""
    answer = line["answer"]
    return (
        answer["outcome"] in KEPT
        and answer["model_version"] == conditions.model_version
        and line["minimum_score"] == conditions.minimum_score
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the whole lines of a journal; an interrupted run may have left half a line at the end."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    for line in text.split("\n")[:-1]:
        yield json.loads(line)


def _as_line(line: dict[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False) + "\n"
