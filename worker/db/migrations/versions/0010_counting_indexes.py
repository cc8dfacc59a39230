"""Indexes for what is counted and looked up at a million studies: arrival with key, commitment, reports that failed.

Revision: 0010; follows 0009.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them; the arrival by itself is the beginning of the first."""
    op.create_index(op.f("ix_studies_first_instance_at_id"), "studies", ["first_instance_at", "id"])
    op.drop_index(op.f("ix_studies_first_instance_at"), "studies")
    op.create_index(op.f("ix_deliveries_committed_at"), "deliveries", ["committed_at"])
    unbuilt = sa.text("state = 'failed'")
    op.create_index("ix_reports_unbuilt", "reports", ["id"], sqlite_where=unbuilt, postgresql_where=unbuilt)
