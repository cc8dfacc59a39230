"""What keeps a training from being done, in words.

CannotTrain         what was asked for or given cannot be trained; the message says what to change
FloatingPointError  Python's own: the losses are no longer numbers
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import SafetensorError

from models.types import BundleError


class CannotTrain(Exception):
    """What was asked for cannot be trained; the message says what to change."""


@contextmanager
def ending_in_words() -> Iterator[None]:
    """End the program with one line and status 1 where it cannot train, instead of a traceback."""
    try:
        yield
    except (CannotTrain, FloatingPointError, OSError) as error:
        sys.exit(f"error: {error}")


@contextmanager
def expecting(what: str, place: Path) -> Iterator[None]:
    """Raise CannotTrain where a file or folder does not hold what it should, whatever stumbled over it."""
    try:
        yield
    except (OSError, BundleError, SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as error:
        # PyTorch lists every tensor that does not fit, a line each.
        reason = (str(error).splitlines() or [""])[0]
        raise CannotTrain(f"{place} does not hold {what} ({type(error).__name__}: {reason})") from error


def require_finite(losses: Mapping[str, float]) -> None:
    """Raise FloatingPointError where a loss is no number any more: no step mends that."""
    if not np.isfinite(list(losses.values())).all():
        raise FloatingPointError(f"the losses are no longer finite ({dict(losses)}): try lower rates")
