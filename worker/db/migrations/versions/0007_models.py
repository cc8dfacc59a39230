"""Models side by side: who had which one used, and the view `v_model_changes` of what they said of the same study.

Revision: 0007; follows 0006.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# SQLite numbers rows by itself only for INTEGER keys.
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_CHANGES = """
CREATE VIEW v_model_changes AS
SELECT
    s.study_instance_uid,
    s.patient_id,
    s.accession_number,
    a.model_version AS from_model,
    a.outcome AS from_outcome,
    a.probability AS from_probability,
    a.finished_at AS from_analysed_at,
    b.model_version AS to_model,
    b.outcome AS to_outcome,
    b.probability AS to_probability,
    b.finished_at AS analysed_at,
    CASE WHEN a.outcome = b.outcome THEN 0 ELSE 1 END AS changed,
    CASE
        WHEN a.outcome = b.outcome THEN 'none'
        WHEN b.outcome = 'present' THEN 'newly_suspected'
        WHEN a.outcome = 'present' THEN 'no_longer_suspected'
        WHEN a.outcome = 'absent' AND b.outcome = 'inconclusive' THEN 'newly_inconclusive'
        ELSE 'other'
    END AS kind,
    a.id AS from_job_id,
    b.id AS to_job_id,
    s.id AS study_id
FROM jobs b
JOIN jobs a ON a.study_id = b.study_id AND a.id < b.id AND a.model_version <> b.model_version AND a.state = 'done'
JOIN studies s ON s.id = b.study_id
WHERE b.state = 'done'
  AND NOT EXISTS (
    SELECT 1 FROM jobs n
    WHERE n.study_id = b.study_id AND n.model_version = b.model_version AND n.id > b.id AND n.state = 'done')
  AND NOT EXISTS (
    SELECT 1 FROM jobs m
    WHERE m.study_id = b.study_id AND m.model_version = a.model_version AND m.id > a.id AND m.id < b.id
      AND m.state = 'done')
"""


def upgrade() -> None:
    """Make the table and the view."""
    op.create_table(
        "bundle_changes",
        sa.Column("id", KEY, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_by", sa.String(128), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("before_version", sa.String(128), nullable=True),
        sa.Column("after_version", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bundle_changes")),
    )
    op.create_index(op.f("ix_bundle_changes_at"), "bundle_changes", ["at"])
    op.execute(_CHANGES)
