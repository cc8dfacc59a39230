"""Who may press what changes something."""

import pytest

from worker.ui.visit import Visit


class Place:
    """A part of the page whose every button was pressed, as a forged message of a browser says."""

    def __init__(self):
        self.shown = []

    def button(self, label, **more):
        self.shown.append((label, more))
        return True


@pytest.mark.parametrize(("role", "acts"), [("operator", True), ("viewer", False), ("", False)])
def test_a_press_is_an_operators_or_none(role, acts):
    place = Place()

    assert Visit(None, None, "ada", role).operator_button("Pause", ". Now.", place, key="one") is acts
    assert place.shown == [("Pause", {"disabled": not acts, "help": "For operators. Now.", "key": "one"})]
