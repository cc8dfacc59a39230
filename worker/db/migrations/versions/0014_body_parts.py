"""An index for a rare body part among a million studies, as the worklist compares it: in upper case.

Revision: 0014; follows 0013.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make it."""
    op.create_index("ix_instances_part", "instances", [sa.text("upper(body_part_examined)")])
    if op.get_bind().dialect.name == "postgresql":
        # It knows nothing of what an expression yields until it has looked, and might not choose the index.
        op.execute("ANALYZE instances")
