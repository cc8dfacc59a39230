"""How much archive work a worker takes on at a time."""

from __future__ import annotations

from dataclasses import dataclass

CHUNK_STUDIES = 8
"""Studies that a worker takes on before it looks for today's; more only where the model takes larger batches."""
AT_ONCE = 2
"""Studies at once where the model takes no batches: one is decoded while the model looks at the other."""


@dataclass(frozen=True, slots=True)
class ChunkRule:
    """So many studies a chunk, claimed within so many seconds, so many of them at once."""

    studies: int
    seconds: float = 5.0
    at_once: int = AT_ONCE
