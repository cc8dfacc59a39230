from __future__ import annotations

import pytest

from dicom_io.types import Outcome
from worker.study.backoff import delay_seconds
from worker.study.outcomes import LONGEST_REASON, ImageOutcome, study_outcome


def image(outcome: str, probability: float | None = None, reason: str | None = None) -> ImageOutcome:
    return ImageOutcome(1, 1, Outcome(outcome), probability, reason=reason)


@pytest.mark.parametrize(
    ("images", "outcome", "probability"),
    [
        ([("absent", 0.1)], "absent", 0.1),
        ([("absent", 0.1), ("absent", 0.2)], "absent", 0.2),
        ([("absent", 0.1), ("failed", None)], "failed", None),
        ([("absent", 0.1), ("inconclusive", 0.05)], "inconclusive", 0.05),
        ([("failed", None), ("inconclusive", 0.4)], "inconclusive", 0.4),
        ([("inconclusive", 0.55), ("present", 0.7), ("failed", None)], "present", 0.7),
        ([("present", 0.7), ("present", 0.9), ("inconclusive", 0.95)], "present", 0.9),
        ([("failed", None), ("failed", None)], "failed", None),
    ],
)
def test_a_study_takes_the_gravest_outcome_and_the_probability_of_that_image(images, outcome, probability):
    answer = study_outcome([image(*each) for each in images])

    assert (answer.outcome, answer.probability) == (outcome, probability)


def test_a_study_with_nothing_in_scope_joins_its_reasons_each_once():
    answer = study_outcome([], ["modality CT", "a report", "modality CT"])

    assert answer.outcome is Outcome.OUT_OF_SCOPE
    assert answer.probability is None
    assert answer.reason == "modality CT; a report"


def test_a_positive_study_still_names_the_image_that_could_not_be_analysed():
    answer = study_outcome([image("present", 0.9), image("failed", reason="the pixel data are cut off")])

    assert answer.reason == (
        "possible fracture in 1 of 2 images; 1 of 2 images could not be analysed: the pixel data are cut off"
    )


def test_a_clear_negative_needs_no_reason():
    assert study_outcome([image("absent", 0.1)]).reason is None


def test_reasons_are_cut_to_what_a_table_can_show():
    answer = study_outcome([], [f"reason {number}" for number in range(500)])

    assert len(answer.reason or "") == LONGEST_REASON


def test_the_back_off_doubles_and_is_capped():
    assert [delay_seconds(attempts) for attempts in (0, 1, 2, 3, 7, 8, 9, 10**6)] == [5, 5, 10, 20, 320, 600, 600, 600]
