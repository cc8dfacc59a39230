"""A model in shadow: jobs that are no answers, views that pass them over, and the record of who had which one run.

Revision: 0013; follows 0012.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# The few words that SQLite and PostgreSQL do not share.
_SECONDS = {
    "sqlite": "ROUND((julianday({later}) - julianday({earlier})) * 86400.0, 3)",
    "postgresql": "ROUND(EXTRACT(EPOCH FROM ({later} - {earlier})), 3)::double precision",
}
_JOINED = {
    "sqlite": "(SELECT group_concat(word, ', ') FROM ({words}) AS listed)",
    "postgresql": "(SELECT string_agg(word, ', ' ORDER BY word) FROM ({words}) AS listed)",
}

# The result of a study is its newest finished answer: one more than that is being worked at may be.
_LATEST = """j.study_id = s.id AND j.purpose = 'answer' AND j.state IN ('done', 'failed') AND NOT EXISTS (
    SELECT 1 FROM jobs n
    WHERE n.study_id = j.study_id AND n.purpose = 'answer' AND n.id > j.id AND n.state IN ('done', 'failed'))"""

# A report is as far as its slowest delivery. An EXISTS for each state would tempt PostgreSQL to read all deliveries.
_REPORT_STATE = """
    CASE
        WHEN r.id IS NULL THEN 'none'
        WHEN r.state = 'failed' THEN 'failed'
        ELSE CASE (
            SELECT MAX(CASE d.state WHEN 'committed' THEN 0 WHEN 'sent' THEN 1 WHEN 'failed' THEN 3 ELSE 2 END)
            FROM deliveries d WHERE d.report_id = r.id)
            WHEN 0 THEN 'committed' WHEN 1 THEN 'sent' WHEN 3 THEN 'failed' ELSE 'built' END
    END
"""

_RESULTS = """
CREATE VIEW v_results AS
SELECT
    s.study_instance_uid,
    s.patient_id,
    s.accession_number,
    s.study_date,
    {body_part} AS body_part,
    {modality} AS modality,
    CASE WHEN j.id IS NULL THEN 'waiting' ELSE j.state END AS state,
    j.outcome,
    j.probability,
    (SELECT COUNT(*) FROM image_results i WHERE i.job_id = j.id AND i.outcome <> 'out_of_scope') AS images,
    (SELECT COUNT(*) FROM image_results i WHERE i.job_id = j.id AND i.outcome = 'failed') AS images_failed,
    (SELECT COUNT(*) FROM findings f JOIN image_results i ON i.id = f.image_result_id WHERE i.job_id = j.id)
        AS findings,
    j.model_version,
    j.reason,
    s.first_instance_at AS received_at,
    s.completed_at,
    j.finished_at AS analysed_at,
    CASE WHEN j.lane = 'live' THEN {turnaround} END AS turnaround_seconds,
    {report_state} AS report_state,
    COALESCE(r.reason, (SELECT MIN(d.reason) FROM deliveries d WHERE d.report_id = r.id AND d.state = 'failed'))
        AS report_reason,
    r.sop_instance_uid AS report_sop_instance_uid,
    (SELECT CASE WHEN COUNT(*) = COUNT(d.committed_at) THEN MAX(d.committed_at) END
        FROM deliveries d WHERE d.report_id = r.id) AS committed_at,
    j.id AS job_id,
    j.revision,
    CASE WHEN j.id IS NOT NULL AND (s.state = 'receiving' OR EXISTS (
        SELECT 1 FROM jobs n
        WHERE n.study_id = s.id AND n.purpose = 'answer' AND n.state IN ('queued', 'running'))) THEN 1 ELSE 0 END
        AS update_pending,
    s.id AS study_id
FROM studies s
LEFT JOIN jobs j ON {latest}
LEFT JOIN reports r ON r.job_id = j.id
"""

_FINDINGS = """
CREATE VIEW v_findings AS
SELECT
    s.study_instance_uid,
    s.patient_id,
    s.accession_number,
    i.series_instance_uid,
    i.sop_instance_uid,
    ir.frame_number,
    f.number,
    f.x1,
    f.y1,
    f.x2,
    f.y2,
    f.score,
    ir.outcome,
    ir.probability,
    j.model_version,
    j.finished_at AS analysed_at,
    j.id AS job_id
FROM studies s
JOIN jobs j ON {latest}
JOIN image_results ir ON ir.job_id = j.id
JOIN instances i ON i.id = ir.instance_id
JOIN findings f ON f.image_result_id = ir.id
"""

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
    CASE WHEN b.purpose = 'shadow' THEN 1 ELSE 0 END AS shadow,
    a.id AS from_job_id,
    b.id AS to_job_id,
    s.id AS study_id
FROM jobs b
JOIN jobs a ON a.study_id = b.study_id AND a.id < b.id AND a.model_version <> b.model_version AND a.state = 'done'
    AND a.purpose = 'answer'
JOIN studies s ON s.id = b.study_id
WHERE b.state = 'done'
  AND NOT EXISTS (
    SELECT 1 FROM jobs n
    WHERE n.study_id = b.study_id AND n.model_version = b.model_version AND n.purpose = b.purpose AND n.id > b.id
      AND n.state = 'done')
  AND NOT EXISTS (
    SELECT 1 FROM jobs m
    WHERE m.study_id = b.study_id AND m.model_version = a.model_version AND m.id > a.id AND m.id < b.id
      AND m.purpose = 'answer' AND m.state = 'done')
"""


def upgrade() -> None:
    """Add columns and indexes, and make the views anew in the words of this database."""
    # SQLite takes a checked column only in these words; anything else would copy the table of all jobs.
    op.execute(
        "ALTER TABLE jobs ADD COLUMN purpose VARCHAR(16) DEFAULT 'answer' NOT NULL "
        "CONSTRAINT ck_jobs_purpose CHECK (purpose IN ('answer', 'shadow'))"
    )
    op.drop_index("ix_jobs_waiting", "jobs")
    _index("ix_jobs_waiting", ["lane", "purpose", "id"], "state = 'queued'")
    _index("ix_jobs_shadows", ["state"], "purpose = 'shadow'")
    with op.batch_alter_table("bundle_changes") as batch:
        batch.add_column(sa.Column("role", sa.String(16), server_default="current", nullable=False))
        batch.create_check_constraint(op.f("ck_bundle_changes_role"), "role IN ('current', 'shadow')")
        batch.alter_column("after_version", existing_type=sa.String(128), nullable=True)
    for view in ("v_model_changes", "v_findings", "v_results"):
        op.execute(f"DROP VIEW {view}")
    dialect = op.get_bind().dialect.name
    arrived = "(SELECT MAX(i.received_at) FROM instances i WHERE i.study_id = s.id AND i.received_at <= j.created_at)"
    op.execute(
        _RESULTS.format(
            body_part=_listed(dialect, "body_part_examined"),
            modality=_listed(dialect, "modality"),
            turnaround=_SECONDS[dialect].format(later="j.finished_at", earlier=arrived),
            report_state=_REPORT_STATE.strip(),
            latest=_LATEST,
        )
    )
    op.execute(_FINDINGS.format(latest=_LATEST))
    op.execute(_CHANGES)


def _index(name: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, "jobs", columns, sqlite_where=where, postgresql_where=where)


def _listed(dialect: str, column: str) -> str:
    """Return SQL for the distinct words of the images to be analysed or, where there is none, of all instances."""
    words = "SELECT DISTINCT i.{column} AS word FROM instances i WHERE i.study_id = s.id{only} ORDER BY 1"
    in_scope = words.format(column=column, only=" AND i.out_of_scope_reason IS NULL")
    everything = words.format(column=column, only="")
    joined = _JOINED[dialect]
    return f"COALESCE({joined.format(words=in_scope)}, {joined.format(words=everything)})"
