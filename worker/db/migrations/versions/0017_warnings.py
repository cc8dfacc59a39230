"""What was left aside of an image's header, and what took its place.

Revision: 0017; follows 0016.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("image_results", sa.Column("warning", sa.Text(), nullable=True))
