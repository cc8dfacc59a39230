"""Schedulers: which one's clock runs, and which ones stand by.

Revision: 0011; follows 0010.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
NAME = 64


def upgrade() -> None:
    """Add the two tables."""
    op.create_table(
        "scheduler_lease",
        sa.Column("name", sa.String(16), nullable=False),
        sa.Column("token", sa.String(NAME), nullable=False),
        sa.Column("acquired_at", MOMENT, nullable=False),
        sa.Column("lease_until", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_scheduler_lease")),
    )
    op.create_table(
        "schedulers",
        sa.Column("token", sa.String(NAME), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_schedulers")),
    )
