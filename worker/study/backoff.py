"""How long to wait before the next try."""

from __future__ import annotations


def delay_seconds(attempts: int, first: float = 5.0, longest: float = 600.0) -> float:
    """Return the wait after the given number of failed attempts: `first`, then doubling, never above `longest`."""
    # The exponent is capped: a PACS that is down for a month must not overflow a float.
    doublings = min(max(attempts - 1, 0), 60)
    return float(min(first * 2.0**doublings, longest))
