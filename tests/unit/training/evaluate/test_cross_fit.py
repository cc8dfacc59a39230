"""Figures by what was fitted on other images: what is learnt from an image must not judge it."""

from dataclasses import replace

import numpy as np

from tests.predictions import many
from training.evaluate.calibration import calibrate, choose_points
from training.evaluate.cross_fit import FOLDS, cross_fitted
from training.evaluate.figures import measure


def test_what_two_good_networks_say_stands_nearly_as_it_is() -> None:
    predictions = many(120)
    calibration = calibrate(predictions)
    seen = measure(predictions, calibration, choose_points(predictions, calibration))

    figures = cross_fitted(predictions)

    assert figures is not None
    assert abs(figures["auc"] - seen["auc"]) < 0.03
    assert figures["auc_95"][0] <= figures["auc"] <= figures["auc_95"][1]
    assert figures["low"]["sensitivity"] >= figures["high"]["sensitivity"]
    assert figures["folds"] == FOLDS


def test_noise_that_a_fit_can_learn_by_heart_comes_out_as_noise() -> None:
    random = np.random.default_rng(8)
    noise = [replace(item, logit=float(random.normal()), boxes=()) for item in many(60)]
    calibration = calibrate(noise)
    by_heart = measure(noise, calibration, choose_points(noise, calibration))["auc"]

    figures = cross_fitted(noise)

    assert figures is not None
    assert by_heart > 0.55
    assert figures["auc"] < 0.5
    assert cross_fitted(noise) == figures


def test_too_few_of_a_class_for_the_folds_give_no_figure() -> None:
    assert cross_fitted(many(3 * (FOLDS - 1))) is None
