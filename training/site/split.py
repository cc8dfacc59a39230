"""Split a site's images by patient: what teaches, what chooses, and what nobody looks at before the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from training.data.dataset import Radiograph
from training.site.labels import SiteDataError

PARTS = ("train", "tune", "held_back")
SHARES = (0.6, 0.2, 0.2)
# Fewer of a class in a part, and neither operating points nor a comparison mean anything.
FEWEST_PATIENTS = 3


@dataclass(frozen=True, slots=True)
class Split:
    """Three parts without a patient in common."""

    train: tuple[Radiograph, ...]
    tune: tuple[Radiograph, ...]
    held_back: tuple[Radiograph, ...]

    def counts(self) -> dict[str, dict[str, int]]:
        """Count images, fractured images, boxes and patients by part."""
        return {part: count(getattr(self, part)) for part in PARTS}


def split_by_patient(radiographs: Sequence[Radiograph], seed: int) -> Split:
    """Draw the parts, patients with and without a fracture apart; the same seed and images give the same parts.

    Raises
    ------
    SiteDataError
        There are too few patients of a class.
    """
    by_patient: dict[str, list[Radiograph]] = defaultdict(list)
    for item in sorted(radiographs, key=lambda item: item.name):
        by_patient[item.patient or item.name].append(item)
    parts: dict[str, list[Radiograph]] = {part: [] for part in PARTS}
    random = np.random.default_rng(seed)
    for fractured, word in ((True, "with"), (False, "without")):
        patients = [group for group in by_patient.values() if any(item.fractured for item in group) is fractured]
        if min(_sizes(len(patients))) < FEWEST_PATIENTS:
            raise SiteDataError(
                f"too few patients {word} a fracture: {len(patients)}; a split into train, tune and held-back parts "
                f"needs at least {_needed()}"
            )
        order = [patients[index] for index in random.permutation(len(patients))]
        for part, size in zip(PARTS, _sizes(len(patients)), strict=True):
            for group in order[:size]:
                parts[part] += [replace(item, split=part) for item in group]
            order = order[size:]
    return Split(*(tuple(sorted(parts[part], key=lambda item: item.name)) for part in PARTS))


def _sizes(patients: int) -> tuple[int, int, int]:
    tune, held_back = (round(share * patients) for share in SHARES[1:])
    return patients - tune - held_back, tune, held_back


def _needed() -> int:
    return next(number for number in range(1, 1000) if min(_sizes(number)) >= FEWEST_PATIENTS)


def count(radiographs: Sequence[Radiograph]) -> dict[str, int]:
    """Count images, fractured images, boxes and patients."""
    return {
        "images": len(radiographs),
        "fractured": sum(item.fractured for item in radiographs),
        "boxes": sum(len(item.boxes_xyxy) for item in radiographs),
        "patients": len({item.patient for item in radiographs}),
    }
