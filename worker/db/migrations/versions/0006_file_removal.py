"""Files that were deleted here: why and when, beside the rows that stay.

Revision: 0006; follows 0005.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, and the index of what is being deleted."""
    op.add_column("instances", sa.Column("file_deleted_reason", sa.String(16), nullable=True))
    op.add_column("instances", sa.Column("file_deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("reports", sa.Column("file_deleted_at", sa.DateTime(timezone=True), nullable=True))
    going = sa.text("file_deleted_reason IS NOT NULL AND file_deleted_at IS NULL")
    op.create_index("ix_instances_going", "instances", ["study_id"], sqlite_where=going, postgresql_where=going)
