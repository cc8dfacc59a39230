"""What administrators ask at a million studies: indexes, faster views, what either network said.

The views say what they said, but find a study's newest finished job by the absence of a newer one. A condition on the
job (its outcome, its moment) can then begin with an index of `jobs`; the `MAX` of before was computed for every study.

Revision: 0003; follows 0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
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

# The result of a study is its newest finished job: one more than that is being worked at may be.
_LATEST = """j.study_id = s.id AND j.state IN ('done', 'failed') AND NOT EXISTS (
    SELECT 1 FROM jobs n WHERE n.study_id = j.study_id AND n.id > j.id AND n.state IN ('done', 'failed'))"""

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
        SELECT 1 FROM jobs n WHERE n.study_id = s.id AND n.state IN ('queued', 'running'))) THEN 1 ELSE 0 END
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


def upgrade() -> None:
    """Add columns and indexes, and make the views anew in the words of this database."""
    op.add_column("image_results", sa.Column("classifier_probability", sa.Float(), nullable=True))
    op.add_column("image_results", sa.Column("detector_score", sa.Float(), nullable=True))
    op.create_index(op.f("ix_studies_first_instance_at"), "studies", ["first_instance_at"])
    op.create_index(op.f("ix_jobs_finished_at"), "jobs", ["finished_at"])
    op.execute("DROP VIEW v_findings")
    op.execute("DROP VIEW v_results")
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


def _listed(dialect: str, column: str) -> str:
    """Return SQL for the distinct words of the images to be analysed or, where there is none, of all instances."""
    words = "SELECT DISTINCT i.{column} AS word FROM instances i WHERE i.study_id = s.id{only} ORDER BY 1"
    in_scope = words.format(column=column, only=" AND i.out_of_scope_reason IS NULL")
    everything = words.format(column=column, only="")
    joined = _JOINED[dialect]
    return f"COALESCE({joined.format(words=in_scope)}, {joined.format(words=everything)})"
