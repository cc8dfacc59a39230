from pathlib import Path

import pytest

from dicom_io.report.text import plain
from dicom_io.report.words import image_words, study_words
from dicom_io.types import Box, Outcome, ReportedImage

ANSWERS = {Outcome.PRESENT: 0.9, Outcome.INCONCLUSIVE: 0.4, Outcome.ABSENT: 0.1}


def image(outcome, probability=None, boxes=0, reason=None):
    value = ANSWERS.get(outcome) if probability is None else probability
    return ReportedImage(Path("x"), 1, outcome, value, (Box(0, 0, 1, 1, 0.5),) * boxes, reason)


@pytest.mark.parametrize(("value", "words"), [(0.0, "below 0.01"), (0.999, "above 0.99"), (0.5, "0.50")])
def test_a_probability_is_never_rounded_to_a_certainty(value, words):
    assert f"probability {words}" in image_words(image(Outcome.PRESENT, value))


@pytest.mark.parametrize(("boxes", "words"), [(0, "no region marked"), (1, "1 region marked"), (2, "2 regions marked")])
def test_regions_are_counted(boxes, words):
    assert words in image_words(image(Outcome.INCONCLUSIVE, boxes=boxes))


def test_inconclusive_says_what_it_does_not_say():
    words = image_words(image(Outcome.INCONCLUSIVE, reason="classifier and detector disagree."))
    assert words.startswith("INCONCLUSIVE (classifier and detector disagree), ")
    assert words.endswith("A fracture is neither found nor ruled out.")


@pytest.mark.parametrize("reason", [None, "the pixel data cannot be decoded"])
@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.OUT_OF_SCOPE])
def test_an_image_without_an_answer_never_reads_as_negative(outcome, reason):
    words = image_words(image(outcome, reason=reason))
    assert words.startswith("NOT ANALYSED")
    assert "not a negative result" in words
    assert "o fracture" not in words


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        ("present", "Possible fracture in 1 of 1 image."),
        ("present absent", "Possible fracture in 1 of 2 images."),
        ("present failed", "Possible fracture in 1 of 2 images. INCOMPLETE: 1 image could not be analysed."),
        ("inconclusive absent", "INCONCLUSIVE in 1 of 2 images: neither found nor ruled out."),
        ("failed", "ANALYSIS FAILED for the image. This is not a negative result."),
        ("failed failed", "ANALYSIS FAILED for all 2 images. This is not a negative result."),
        ("failed absent", "INCOMPLETE: 1 of 2 images could not be analysed. This is not a negative result."),
        ("absent absent", "No fracture found by the AI in 2 images."),
        ("absent out_of_scope", "No fracture found by the AI in 1 image."),
        ("out_of_scope", "NOT ANALYSED: no image is within the scope of the AI. This is not a negative result."),
    ],
)
def test_the_study_is_summed_up_with_what_is_missing(outcomes, words):
    images = [image(Outcome(word)) for word in outcomes.split()]
    gravest = next(each for each in Outcome if any(one.outcome is each for one in images))
    assert study_words(gravest, images) == words


def test_our_words_fit_every_character_set():
    assert plain("Gerät ~\\ “x”\n\tend") == "Gerat -/ x end"
