"""Predictions of invented images: as good as a fair model's, the same every time, without any network."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.decision import Calibration, OperatingPoints
from models.types import ScoredBox
from training.data.dataset import Radiograph
from training.evaluate.figures import measure
from training.evaluate.predictions import Prediction

CALIBRATION = Calibration(-1.0, 0.8, 0.3)
POINTS = OperatingPoints(0.1, 0.6, 0.5)
BOX = (10.0, 10.0, 30.0, 30.0)


def one(fractured: bool, logit: float, score: float, hit: bool = True) -> Prediction:
    """Return a prediction with one box, which hits the true one or lies beside it."""
    found = ScoredBox(*(BOX if hit else (50.0, 50.0, 70.0, 70.0)), score)
    radiograph = Radiograph("a.png", Path("a.png"), "valid", fractured, False, ("hand",), (BOX,) if fractured else ())
    return Prediction(radiograph, logit, (found,), 0.1)


def many(count: int = 60) -> list[Prediction]:
    """Return predictions of images of several parts and views, a third of them fractured."""
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        fractured = number % 3 == 0
        x, y = random.integers(0, 300, 2).tolist()
        false = [ScoredBox(p, p, p + 30.0, p + 30.0, float(random.beta(1.2, 5))) for p in (350.0, 400.0)]
        hit = [ScoredBox(x + 2.0, y, x + 40.0, y + 33.0, float(random.beta(4, 2)))] if random.random() < 0.8 else []
        boxes = sorted(false + (hit if fractured else []), key=lambda box: -box.score)
        radiograph = Radiograph(
            name=f"{number}.png",
            path=Path(f"{number}.png"),
            split="valid",
            fractured=fractured,
            truncated=False,
            body_parts=(("hand", "leg")[number % 2],),
            boxes_xyxy=((x, y, x + 40.0, y + 30.0),) if fractured else (),
            views=(("frontal", "lateral")[number // 2 % 2],),
            hardware=number % 9 == 0,
        )
        logit = float(random.normal(2 if fractured else -1, 1.2))
        made.append(Prediction(radiograph, logit, tuple(boxes), float(random.gamma(5, 0.1))))
    return made


def figures() -> dict[str, object]:
    """Measure them."""
    return measure(many(), CALIBRATION, POINTS)
