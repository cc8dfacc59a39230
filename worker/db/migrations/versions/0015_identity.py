"""What an image is beyond its bytes: digests of its pixels and of what is said of it, and what was replaced.

Revision: 0015; follows 0014.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, empty until an image comes again or is decoded, and the table."""
    for name in ("issuer_of_patient_id", "content_digest", "pixel_digest", "attributes_digest"):
        op.add_column("instances", sa.Column(name, sa.String(64), nullable=True))
    key = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "replaced_instances",
        sa.Column("id", key, nullable=False),
        sa.Column("instance_id", key, nullable=False),
        sa.Column("replaced_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("patient_id", sa.String(64), nullable=True),
        sa.Column("issuer_of_patient_id", sa.String(64), nullable=True),
        sa.Column("transfer_syntax_uid", sa.String(64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("content_digest", sa.String(64), nullable=True),
        sa.Column("pixel_digest", sa.String(64), nullable=True),
        sa.Column("attributes_digest", sa.String(64), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("out_of_scope_reason", sa.Text(), nullable=True),
        sa.Column("calling_ae_title", sa.String(16), nullable=False),
        sa.Column("peer_address", sa.String(64), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("file_deleted_reason", sa.String(16), nullable=True),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instances.id"], name=op.f("fk_replaced_instances_instance_id_instances")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replaced_instances")),
    )
    for column in ("instance_id", "replaced_at"):
        op.create_index(op.f(f"ix_replaced_instances_{column}"), "replaced_instances", [column])
