"""The pictures that go with a report: the table `companions`, and deliveries of them beside those of reports.

Revision: 0009; follows 0008.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# SQLite numbers rows by itself only for INTEGER keys.
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table, and let a delivery be of either."""
    op.create_table(
        "companions",
        sa.Column("id", KEY, nullable=False),
        sa.Column("report_id", KEY, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sop_instance_uid", sa.String(64), nullable=True),
        sa.Column("sop_class_uid", sa.String(64), nullable=True),
        sa.Column("series_instance_uid", sa.String(64), nullable=True),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("file_deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('capture', 'presentation')", name=op.f("ck_companions_kind")),
        sa.CheckConstraint("state IN ('built', 'failed')", name=op.f("ck_companions_state")),
        sa.ForeignKeyConstraint(["report_id"], ["reports.id"], name=op.f("fk_companions_report_id_reports")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_companions")),
        sa.UniqueConstraint("report_id", "kind", "number", name=op.f("uq_companions_report_id_kind_number")),
        sa.UniqueConstraint("sop_instance_uid", name=op.f("uq_companions_sop_instance_uid")),
    )
    views = _views_put_aside()
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.alter_column("report_id", existing_type=KEY, nullable=True)
        deliveries.add_column(sa.Column("companion_id", KEY, nullable=True))
        deliveries.create_foreign_key(
            op.f("fk_deliveries_companion_id_companions"), "companions", ["companion_id"], ["id"]
        )
        deliveries.create_unique_constraint(
            op.f("uq_deliveries_companion_id_destination"), ["companion_id", "destination"]
        )
        deliveries.create_check_constraint(
            op.f("ck_deliveries_one_object"), "(report_id IS NULL) <> (companion_id IS NULL)"
        )
    for view in views:
        op.execute(view)


def _views_put_aside() -> list[str]:
    """Drop the views of SQLite, which copies a table to change it, and return the words that make them again."""
    if op.get_bind().dialect.name != "sqlite":
        return []
    found = op.get_bind().execute(sa.text("SELECT name, sql FROM sqlite_master WHERE type = 'view' ORDER BY rowid"))
    views = [(str(name), str(words)) for name, words in found]
    for name, _ in views:
        op.execute(f'DROP VIEW "{name}"')
    return [words for _, words in views]
