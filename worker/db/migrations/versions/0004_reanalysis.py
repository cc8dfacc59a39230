"""Re-analysis: the runs, the studies that they took up, and `v_reanalysis`, which says how far each run is.

Revision: 0004; follows 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# SQLite numbers rows by itself only for INTEGER keys.
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)

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
    {queued} AS queued,
    {done} AS done,
    {failed} AS failed,
    r.cursor_date
FROM reanalysis_runs r
"""
_COUNT = "(SELECT COUNT(*) FROM reanalysis_items i WHERE i.run_id = r.id AND i.state = '{state}')"


def upgrade() -> None:
    """Make the tables and the view."""
    op.create_index(op.f("ix_studies_study_date_id"), "studies", ["study_date", "id"])
    _runs()
    _items()
    op.execute(_VIEW.format(**{state: _COUNT.format(state=state) for state in ("queued", "done", "failed")}))


def _runs() -> None:
    op.create_table(
        "reanalysis_runs",
        sa.Column("id", KEY, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("since", sa.String(8), nullable=True),
        sa.Column("until", sa.String(8), nullable=True),
        sa.Column("modalities", sa.Text(), nullable=True),
        sa.Column("body_parts", sa.Text(), nullable=True),
        sa.Column("direction", sa.String(16), nullable=False),
        sa.Column("maximum_studies", sa.Integer(), nullable=True),
        sa.Column("model_version", sa.String(128), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("asked_by", sa.String(128), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("planned_at", MOMENT, nullable=True),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("night_started_at", MOMENT, nullable=True),
        sa.Column("night_until", MOMENT, nullable=True),
        sa.Column("night_studies", sa.Integer(), nullable=False),
        sa.Column("cursor_date", sa.String(8), nullable=True),
        sa.Column("cursor_study_id", sa.BigInteger(), nullable=True),
        sa.Column("found", sa.Integer(), nullable=False),
        sa.Column("planned", sa.Integer(), nullable=False),
        sa.Column("lease_token", sa.String(36), nullable=True),
        sa.Column("lease_until", MOMENT, nullable=True),
        sa.CheckConstraint(
            "state IN ('planned', 'running', 'paused', 'finished', 'stopped')", name=op.f("ck_reanalysis_runs_state")
        ),
        sa.CheckConstraint("direction IN ('newest', 'oldest')", name=op.f("ck_reanalysis_runs_direction")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reanalysis_runs")),
        sa.UniqueConstraint("source", "night_started_at", name=op.f("uq_reanalysis_runs_source_night_started_at")),
    )
    op.create_index(op.f("ix_reanalysis_runs_state"), "reanalysis_runs", ["state"])


def _items() -> None:
    op.create_table(
        "reanalysis_items",
        sa.Column("id", KEY, nullable=False),
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("job_id", KEY, nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("found_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('queued', 'done', 'failed')",
            name=op.f("ck_reanalysis_items_state"),
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["reanalysis_runs.id"], name=op.f("fk_reanalysis_items_run_id_reanalysis_runs")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_reanalysis_items_job_id_jobs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reanalysis_items")),
        sa.UniqueConstraint("run_id", "study_instance_uid", name=op.f("uq_reanalysis_items_run_id_study_instance_uid")),
    )
    op.create_index(op.f("ix_reanalysis_items_job_id"), "reanalysis_items", ["job_id"])
    op.create_index(
        op.f("ix_reanalysis_items_run_id_state"),
        "reanalysis_items",
        ["run_id", "state"],
    )
