"""The names of SOP classes, for messages to people."""

from __future__ import annotations

from pydicom.uid import UID


def class_name(sop_class_uid: str) -> str:
    """Return the standard's name of a SOP class (PS3.6 Annex A), without the word Storage."""
    return str(UID(sop_class_uid).name).removesuffix(" Storage")
