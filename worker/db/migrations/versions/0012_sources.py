"""How each instance came here, and the C-MOVEs of ours that are under way.

Revision: 0012; follows 0011.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# SQLite numbers rows by itself only for INTEGER keys.
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the column, for all that is there was pushed, and the table."""
    op.add_column("instances", sa.Column("source", sa.String(16), nullable=False, server_default="push"))
    op.create_table(
        "moves",
        sa.Column("id", KEY, nullable=False),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("message_id", sa.Integer(), nullable=False),
        sa.Column("ae_title", sa.String(16), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_moves")),
    )
    op.create_index(op.f("ix_moves_study_instance_uid"), "moves", ["study_instance_uid"])
