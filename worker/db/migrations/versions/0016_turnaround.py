"""Turnaround from the images to their first answer: reports that come back, retries and nights no longer change it.

Revision: 0016; follows 0015.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
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

# The first answer to a study's images; a late image makes other contents, which have a first answer of their own.
_TURNAROUND = """
CREATE VIEW v_turnaround AS
SELECT
    s.study_instance_uid,
    s.accession_number,
    j.model_version,
    j.last_image_at,
    j.finished_at AS answered_at,
    {seconds} AS turnaround_seconds,
    j.id AS job_id,
    j.digest,
    j.study_id
FROM jobs j
JOIN studies s ON s.id = j.study_id
WHERE j.purpose = 'answer' AND j.state = 'done' AND j.lane = 'live' AND j.last_image_at IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM jobs n
    WHERE n.study_id = j.study_id AND n.digest = j.digest AND n.id < j.id AND n.purpose = 'answer'
      AND n.state = 'done')
"""

# Of the jobs of before, as far as the instances still tell.
_LAST_IMAGE = """
UPDATE jobs SET last_image_at = (
    SELECT MAX(i.received_at) FROM instances i
    WHERE i.study_id = jobs.study_id AND i.out_of_scope_reason IS NULL AND i.received_at <= jobs.created_at)
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
    (SELECT t.turnaround_seconds FROM v_turnaround t WHERE t.study_id = s.id AND t.digest = j.digest)
        AS turnaround_seconds,
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


def upgrade() -> None:
    """Add the column, make the new view, and `v_results` anew upon it, in the words of this database."""
    op.add_column("jobs", sa.Column("last_image_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(_LAST_IMAGE)
    op.execute("DROP VIEW v_results")
    dialect = op.get_bind().dialect.name
    op.execute(_TURNAROUND.format(seconds=_SECONDS[dialect].format(later="j.finished_at", earlier="j.last_image_at")))
    op.execute(
        _RESULTS.format(
            body_part=_listed(dialect, "body_part_examined"),
            modality=_listed(dialect, "modality"),
            report_state=_REPORT_STATE.strip(),
            latest=_LATEST,
        )
    )


def _listed(dialect: str, column: str) -> str:
    """Return SQL for the distinct words of the images to be analysed or, where there is none, of all instances."""
    words = "SELECT DISTINCT i.{column} AS word FROM instances i WHERE i.study_id = s.id{only} ORDER BY 1"
    in_scope = words.format(column=column, only=" AND i.out_of_scope_reason IS NULL")
    everything = words.format(column=column, only="")
    joined = _JOINED[dialect]
    return f"COALESCE({joined.format(words=in_scope)}, {joined.format(words=everything)})"
