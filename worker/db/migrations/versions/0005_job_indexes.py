"""Two indexes on jobs: those that wait, by lane; and the answers of the live lane, with what means over weeks need.

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
    """Make them."""
    waiting = sa.text("state = 'queued'")
    op.create_index("ix_jobs_waiting", "jobs", ["lane", "id"], sqlite_where=waiting, postgresql_where=waiting)
    answers = sa.text("state = 'done' AND lane = 'live' AND probability IS NOT NULL")
    op.create_index(
        "ix_jobs_answers",
        "jobs",
        ["finished_at"],
        sqlite_where=answers,
        postgresql_where=answers,
        postgresql_include=["model_version", "outcome", "probability"],
    )
