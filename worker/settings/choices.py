"""What only a site can choose, and has no default that pretends to a choice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Choice:
    """What only a site can choose: what it means that it has not, and how it is chosen in the settings file."""

    words: str
    example: str


CHOICES = {
    "destinations": Choice(
        "no destination: reports are kept and sent nowhere (BONEWATCH_DESTINATIONS)",
        'destinations = [{ name = "pacs", ae_title = "PACS", host = "10.0.0.5", port = 104 }]',
    ),
    "allowed_callers": Choice(
        "no list of callers: every AE that reaches the port may push (BONEWATCH_ALLOWED_CALLERS)",
        'allowed_callers = ["PACS@10.0.0.5"]',
    ),
    "accept_unknown_body_part": Choice(
        "nothing said of images that do not say their body part: they are not analysed "
        "(BONEWATCH_ACCEPT_UNKNOWN_BODY_PART)",
        "accept_unknown_body_part = false, or true",
    ),
}
