"""What the model says of an image, as a person reads it: words, and the probability on a scale with both points."""

from __future__ import annotations

import streamlit as st

from models.decision import OperatingPoints
from worker.ui.words import outcome_words

BANNERS = {"present": st.error, "inconclusive": st.warning, "failed": st.warning, "absent": st.success}
WIDTH, HEIGHT = 400.0, 52.0


def ink() -> str:
    """Return the colour of words in a drawing: no grey has 4.5 to 1 on both grounds of the page (WCAG 2.2, 1.4.3)."""
    return "#c8c8c8" if st.context.theme.type == "dark" else "#555555"


def show_outcome(outcome: str, reason: str | None) -> None:
    """Show the outcome in words, with the reason where there is one; both are shown as plain text."""
    BANNERS.get(outcome, st.info)(outcome_words(outcome))
    if reason:
        st.text(reason[:1].upper() + reason[1:])


def answer_words(outcome: str, probability: float | None) -> str:
    """Return the outcome in words, with the probability where there is one."""
    words = outcome_words(outcome)
    return words if probability is None else f"{words}, probability {probability:.2f}"


def show_probability(probability: float, points: OperatingPoints) -> None:
    """Draw a probability on a scale from 0 to 1 with both operating points; numbers alone go into the drawing."""
    places = [float(points.low), float(points.high), float(probability)]
    low, high, here = (12 + value * (WIDTH - 24) for value in places)
    words = f"Probability {probability:.2f}; below {points.low:.2f} absent, from {points.high:.2f} present"
    zones = "".join(
        f'<rect x="{start:.1f}" y="18" width="{max(0.0, end - start):.1f}" height="10" fill="{colour}"/>'
        for start, end, colour in ((12, low, "#2e7d32"), (low, high, "#ed9b00"), (high, WIDTH - 12, "#c62828"))
    )
    colour_of_words = ink()
    ticks = "".join(
        f'<text x="{place:.1f}" y="44" font-size="12" text-anchor="middle" fill="{colour_of_words}">{value:.2f}</text>'
        for place, value in ((low, points.low), (high, points.high))
    )
    pointer = f'<path d="M{here - 7:.1f} 4 h14 l-7 12 z" fill="{colour_of_words}"/>'
    st.image(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH:.0f}" height="{HEIGHT:.0f}" '
        f'viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}">{zones}{ticks}{pointer}</svg>',
        caption=words,
        alt=words,
    )
