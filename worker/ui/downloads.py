"""Files that a page offers to keep."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st


def offer_file(label: str, make: Callable[[], bytes], file_name: str, mime: str) -> None:
    """Offer a file that is made when somebody presses the button.

    The page is not drawn anew then: whoever presses another button meanwhile would get no file, for drawing takes back
    what the browser was told to ask for.
    """
    st.download_button(label, make, file_name=file_name, mime=mime, key=f"file-{file_name}", on_click="ignore")
