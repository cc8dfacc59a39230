"""The names of SOP classes, for messages to people."""

from __future__ import annotations

from pydicom.uid import UID


def is_image_class(sop_class_uid: str) -> bool:
    """Say whether objects of a SOP class are images: not so reports, presentation states, documents, key objects.

    A private class, or one that is not known yet, counts as none.
    """
    return "Image Storage" in UID(sop_class_uid).name


def class_name(sop_class_uid: str) -> str:
    """Return the standard's name of a SOP class (PS3.6 Annex A), without the word Storage."""
    return str(UID(sop_class_uid).name).removesuffix(" Storage")
