"""The AE that a PACS pushes to (PS3.4 Annex B)."""

from __future__ import annotations

from dicom_io.intake import Intake, IntakeUnavailable
from dicom_io.listener_settings import AllowedCaller, ListenerSettings

__all__ = ["AllowedCaller", "Intake", "IntakeUnavailable", "ListenerSettings"]
