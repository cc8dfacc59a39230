"""The model behind the page: loaded once for all visits, one image at a time."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from models.manifest import SHIPPED, Manifest, read_manifest
from models.types import ImageAnalysis
from worker.settings.settings import Settings

if TYPE_CHECKING:
    from models.analyzer import Analyzer


@dataclass
class SharedModel:
    """An analyzer that several visits take turns at; see `models.analyzer.Analyzer`."""

    analyzer: Analyzer
    manifest: Manifest
    _turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self.analyzer.version

    def analyze(self, pixels: NDArray[np.float32], minimum_score: float | None = None) -> ImageAnalysis:
        """Analyse one image."""
        with self._turn:
            return self.analyzer.analyze(pixels, minimum_score)

    def explain(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return where the classifier looked: (rows, columns), 0..1."""
        with self._turn:
            return self.analyzer.explain(pixels)


def current_model(settings: Settings) -> SharedModel:
    """Return the bundle in use, loaded when it is first asked for; a promoted one is taken up at the next visit.

    Raises
    ------
    models.types.ModelError
        It cannot be used.
    """
    folder = settings.installed_bundle() or SHIPPED
    return _load(str(folder), read_manifest(folder).version, settings.device, settings.threads)


@st.cache_resource(max_entries=1, show_spinner="Loading the model")
def _load(folder: str, _version: str, device: str, threads: int | None) -> SharedModel:
    # Imported here: torch takes seconds, and most visits never need it.
    from models.analyzer import Analyzer  # noqa: PLC0415
    from models.bundle import load_bundle  # noqa: PLC0415

    bundle: Any = load_bundle(Path(folder))
    return SharedModel(Analyzer(bundle, device, threads), bundle.manifest)
