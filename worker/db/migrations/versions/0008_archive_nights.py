"""Re-analysis over an archive: where its plan is, what becomes of each retrieval, and the pace of asking.

Revision: 0008; follows 0007.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
STATES = ("found", "retrieving", "retrieved", "queued", "done", "failed")

_VIEW = """
CREATE VIEW v_reanalysis AS
SELECT
    r.id AS run_id,
    r.source,
    r.model_version,
    r.state,
    r.reason,
    r.asked_by,
    r.created_at,
    r.planned_at,
    r.finished_at,
    r.found,
    {counts},
    r.cursor_date
FROM reanalysis_runs r
"""
_COUNT = "(SELECT COUNT(*) FROM reanalysis_items i WHERE i.run_id = r.id AND i.state IN ({states})) AS {name}"
_COUNTED = {
    "to_retrieve": "'found', 'retrieving'",
    "retrieved": "'retrieved'",
    "queued": "'queued'",
    "done": "'done'",
    "failed": "'failed'",
}


def upgrade() -> None:
    """Add the columns, the states and the table, and make the view anew."""
    op.execute("DROP VIEW v_reanalysis")
    op.add_column("reanalysis_runs", sa.Column("cursor_time", sa.String(4), nullable=True))
    op.add_column("reanalysis_runs", sa.Column("window_minutes", sa.Integer(), nullable=True))
    op.add_column("reanalysis_runs", sa.Column("setbacks", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("reanalysis_runs", sa.Column("retry_at", MOMENT, nullable=True))
    _items()
    op.create_table(
        "archive_pace",
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("next_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("kind", name=op.f("pk_archive_pace")),
    )
    counts = ",\n    ".join(_COUNT.format(states=states, name=name) for name, states in _COUNTED.items())
    op.execute(_VIEW.format(counts=counts))


def _items() -> None:
    check = op.f("ck_reanalysis_items_state")
    with op.batch_alter_table("reanalysis_items") as items:
        items.drop_constraint(check, type_="check")
        items.add_column(sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False))
        items.add_column(sa.Column("next_attempt_at", MOMENT, nullable=True))
        items.add_column(sa.Column("retrieval_at", MOMENT, nullable=True))
        items.add_column(sa.Column("copy_here", sa.Boolean(), server_default=sa.false(), nullable=False))
        items.add_column(sa.Column("reason_code", sa.String(32), nullable=True))
        items.create_check_constraint(check, f"state IN ({', '.join(repr(state) for state in STATES)})")
    for name, where in (("retrieving", "state = 'retrieving'"), ("copies", "copy_here")):
        condition = sa.text(where)
        op.create_index(
            f"ix_reanalysis_items_{name}", "reanalysis_items", ["study_instance_uid"],
            sqlite_where=condition, postgresql_where=condition,
        )  # fmt: skip
