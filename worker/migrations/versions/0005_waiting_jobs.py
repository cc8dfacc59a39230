"""An index that holds the jobs which wait, and finds the next one of a lane.

Revision: 0005; follows 0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make it."""
    waiting = sa.text("state = 'queued'")
    op.create_index("ix_jobs_waiting", "jobs", ["lane", "id"], sqlite_where=waiting, postgresql_where=waiting)
