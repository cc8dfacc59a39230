"""The queries of docs/database.md, as people copy them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.product import ROOT

DATABASE = (ROOT / "docs" / "database.md").read_text()
_DIALECTS = {"PostgreSQL": "postgresql", "SQLite": "sqlite"}


def queries(dialect: str, page: str = DATABASE) -> Iterator[tuple[str, str]]:
    """Yield title and text of every query for this database: those for both, and those with its name above them."""
    for title, body in re.findall(r"^### ([^\n]*)\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL):
        for name, query in re.findall(r"(?:^(\w+):\n\n)?```sql\n(.*?);\n```$", body, re.MULTILINE | re.DOTALL):
            if _DIALECTS.get(name, dialect) == dialect:
                yield title, query
