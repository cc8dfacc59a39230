"""All tables, indexes and views; docs/database.md explains each column of the views.

Nothing was released before it, so it begins the chain. A change of the schema is a migration of its own behind it.

Revision: 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite numbers rows by itself only for INTEGER keys.
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)

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
    s.held_reason,
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

_REANALYSIS = """
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
_ITEMS = "(SELECT COUNT(*) FROM reanalysis_items i WHERE i.run_id = r.id AND i.state IN ({states}))"
# Most jobs of a run are done, so the others are counted: from them to the run (SQLite cannot use the index of a sum).
_JOBS = """(SELECT COUNT(*) FROM jobs j JOIN reanalysis_items i ON i.job_id = j.id
     WHERE j.state IN ({states}) AND i.run_id + 0 = r.id)"""
_UNDER_WAY, _GIVEN_UP = _JOBS.format(states="'queued', 'running'"), _JOBS.format(states="'failed'")
_COUNTED = {
    "to_retrieve": _ITEMS.format(states="'found', 'retrieving'"),
    "retrieved": _ITEMS.format(states="'retrieved'"),
    "queued": _UNDER_WAY,
    "done": f"""{_ITEMS.format(states="'analysis'")}
    - {_UNDER_WAY}
    - {_GIVEN_UP}""",
    "failed": f"""{_ITEMS.format(states="'failed'")}
    + {_GIVEN_UP}""",
}


def upgrade() -> None:
    """Make the tables, then the views in the words of this database."""
    _make_tables()
    dialect = op.get_bind().dialect.name
    op.create_index("ix_instances_part", "instances", [sa.text("upper(body_part_examined)")])
    if dialect == "postgresql":
        # It knows nothing of what an expression yields until it has looked, and might not choose the index.
        op.execute("ANALYZE instances")
    op.execute(_TURNAROUND.format(seconds=_SECONDS[dialect].format(later="j.finished_at", earlier="j.last_image_at")))
    op.execute(
        _RESULTS.format(
            body_part=_listed(dialect, "body_part_examined"),
            modality=_listed(dialect, "modality"),
            report_state=_REPORT_STATE.strip(),
            latest=_LATEST,
        )
    )
    op.execute(_FINDINGS.format(latest=_LATEST))
    op.execute(_CHANGES)
    counts = ",\n    ".join(f"{count} AS {name}" for name, count in _COUNTED.items())
    op.execute(_REANALYSIS.format(counts=counts))


def _listed(dialect: str, column: str) -> str:
    """Return SQL for the distinct words of the images to be analysed or, where there is none, of all instances."""
    words = "SELECT DISTINCT i.{column} AS word FROM instances i WHERE i.study_id = s.id{only} ORDER BY 1"
    in_scope = words.format(column=column, only=" AND i.out_of_scope_reason IS NULL")
    everything = words.format(column=column, only="")
    joined = _JOINED[dialect]
    return f"COALESCE({joined.format(words=in_scope)}, {joined.format(words=everything)})"


def _make_tables() -> None:  # noqa: PLR0915 - a statement each table and index
    op.create_table(
        "archive_pace",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("next_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("kind", name=op.f("pk_archive_pace")),
    )
    op.create_table(
        "bundle_changes",
        sa.Column("id", KEY, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("changed_by", sa.String(length=128), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("role", sa.String(length=16), server_default="current", nullable=False),
        sa.Column("before_version", sa.String(length=128), nullable=True),
        sa.Column("after_version", sa.String(length=128), nullable=True),
        sa.CheckConstraint("role IN ('current', 'shadow')", name=op.f("ck_bundle_changes_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bundle_changes")),
    )
    op.create_index(op.f("ix_bundle_changes_at"), "bundle_changes", ["at"])
    op.create_table(
        "moves",
        sa.Column("id", KEY, nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("message_id", sa.Integer(), nullable=False),
        sa.Column("ae_title", sa.String(length=16), nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_moves")),
    )
    op.create_index(op.f("ix_moves_study_instance_uid"), "moves", ["study_instance_uid"])
    op.create_table(
        "reanalysis_runs",
        sa.Column("id", KEY, nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("since", sa.String(length=8), nullable=True),
        sa.Column("until", sa.String(length=8), nullable=True),
        sa.Column("modalities", sa.Text(), nullable=True),
        sa.Column("body_parts", sa.Text(), nullable=True),
        sa.Column("direction", sa.String(length=16), nullable=False),
        sa.Column("maximum_studies", sa.Integer(), nullable=True),
        sa.Column("model_version", sa.String(length=128), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("asked_by", sa.String(length=128), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("planned_at", MOMENT, nullable=True),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("night_started_at", MOMENT, nullable=True),
        sa.Column("night_until", MOMENT, nullable=True),
        sa.Column("night_studies", sa.Integer(), nullable=False),
        sa.Column("cursor_date", sa.String(length=8), nullable=True),
        sa.Column("cursor_study_id", sa.BigInteger(), nullable=True),
        sa.Column("cursor_time", sa.String(length=4), nullable=True),
        sa.Column("window_minutes", sa.Integer(), nullable=True),
        sa.Column("setbacks", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("retry_at", MOMENT, nullable=True),
        sa.Column("found", sa.Integer(), nullable=False),
        sa.Column("planned", sa.Integer(), nullable=False),
        sa.Column("lease_token", sa.String(length=36), nullable=True),
        sa.Column("lease_until", MOMENT, nullable=True),
        sa.CheckConstraint("direction IN ('newest', 'oldest')", name=op.f("ck_reanalysis_runs_direction")),
        sa.CheckConstraint(
            "state IN ('planned', 'running', 'paused', 'finished', 'stopped')", name=op.f("ck_reanalysis_runs_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reanalysis_runs")),
        sa.UniqueConstraint("source", "night_started_at", name=op.f("uq_reanalysis_runs_source_night_started_at")),
    )
    op.create_index(op.f("ix_reanalysis_runs_state"), "reanalysis_runs", ["state"])
    op.create_table(
        "rejections",
        sa.Column("id", KEY, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("calling_ae_title", sa.String(length=16), nullable=False),
        sa.Column("peer_address", sa.String(length=64), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=True),
        sa.Column("quarantine_path", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rejections")),
    )
    op.create_index(op.f("ix_rejections_at"), "rejections", ["at"])
    op.create_table(
        "schedulers",
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_schedulers")),
    )
    op.create_table(
        "studies",
        sa.Column("id", KEY, nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("patient_id", sa.String(length=64), nullable=True),
        sa.Column("accession_number", sa.String(length=64), nullable=True),
        sa.Column("study_date", sa.String(length=8), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("first_instance_at", MOMENT, nullable=False),
        sa.Column("last_instance_at", MOMENT, nullable=False),
        sa.Column("completed_at", MOMENT, nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("held_reason", sa.Text(), nullable=True),
        sa.CheckConstraint("state IN ('receiving', 'complete')", name=op.f("ck_studies_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_studies")),
        sa.UniqueConstraint("study_instance_uid", name=op.f("uq_studies_study_instance_uid")),
    )
    op.create_index(op.f("ix_studies_accession_number"), "studies", ["accession_number"])
    op.create_index(op.f("ix_studies_first_instance_at_id"), "studies", ["first_instance_at", "id"])
    op.create_index(
        "ix_studies_held",
        "studies",
        ["id"],
        sqlite_where=sa.text("held_reason IS NOT NULL"),
        postgresql_where=sa.text("held_reason IS NOT NULL"),
    )
    op.create_index(op.f("ix_studies_patient_id"), "studies", ["patient_id"])
    op.create_index(op.f("ix_studies_state_last_instance_at"), "studies", ["state", "last_instance_at"])
    op.create_index(op.f("ix_studies_study_date_id"), "studies", ["study_date", "id"])
    op.create_table(
        "instances",
        sa.Column("id", KEY, nullable=False),
        sa.Column("study_id", KEY, nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(length=64), nullable=False),
        sa.Column("patient_id", sa.String(length=64), nullable=True),
        sa.Column("issuer_of_patient_id", sa.String(length=64), nullable=True),
        sa.Column("modality", sa.String(length=16), nullable=True),
        sa.Column("body_part_examined", sa.String(length=64), nullable=True),
        sa.Column("laterality", sa.String(length=16), nullable=True),
        sa.Column("view_position", sa.String(length=64), nullable=True),
        sa.Column("number_of_frames", sa.Integer(), nullable=False),
        sa.Column("out_of_scope_reason", sa.Text(), nullable=True),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("content_digest", sa.String(length=64), nullable=True),
        sa.Column("pixel_digest", sa.String(length=64), nullable=True),
        sa.Column("attributes_digest", sa.String(length=64), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("calling_ae_title", sa.String(length=16), nullable=False),
        sa.Column("peer_address", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=16), server_default="push", nullable=False),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.Column("file_deleted_reason", sa.String(length=16), nullable=True),
        sa.Column("file_deleted_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name=op.f("fk_instances_study_id_studies")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instances")),
        sa.UniqueConstraint("sop_instance_uid", name=op.f("uq_instances_sop_instance_uid")),
    )
    op.create_index(
        "ix_instances_going",
        "instances",
        ["study_id"],
        sqlite_where=sa.text("file_deleted_reason IS NOT NULL AND file_deleted_at IS NULL"),
        postgresql_where=sa.text("file_deleted_reason IS NOT NULL AND file_deleted_at IS NULL"),
    )
    op.create_index(op.f("ix_instances_received_at"), "instances", ["received_at"])
    op.create_index(op.f("ix_instances_study_id"), "instances", ["study_id"])
    op.create_table(
        "jobs",
        sa.Column("id", KEY, nullable=False),
        sa.Column("study_id", KEY, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("model_version", sa.String(length=128), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("purpose", sa.String(length=16), server_default="answer", nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_image_at", MOMENT, nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("enqueued_at", MOMENT, nullable=True),
        sa.Column("next_attempt_at", MOMENT, nullable=True),
        sa.Column("lease_token", sa.String(length=36), nullable=True),
        sa.Column("claimed_by", sa.String(length=128), nullable=True),
        sa.Column("lease_until", MOMENT, nullable=True),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("probability", sa.Float(), nullable=True),
        sa.Column("analysis_seconds", sa.Float(), nullable=True),
        sa.CheckConstraint("lane IN ('live', 'archive')", name=op.f("ck_jobs_lane")),
        sa.CheckConstraint(
            "outcome IN ('present', 'inconclusive', 'failed', 'absent', 'out_of_scope')", name=op.f("ck_jobs_outcome")
        ),
        sa.CheckConstraint("purpose IN ('answer', 'shadow')", name=op.f("ck_jobs_purpose")),
        sa.CheckConstraint("state IN ('queued', 'running', 'done', 'failed')", name=op.f("ck_jobs_state")),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name=op.f("fk_jobs_study_id_studies")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint(
            "study_id",
            "digest",
            "model_version",
            "revision",
            name=op.f("uq_jobs_study_id_digest_model_version_revision"),
        ),
    )
    op.create_index(
        "ix_jobs_answers",
        "jobs",
        ["finished_at"],
        sqlite_where=sa.text("state = 'done' AND lane = 'live' AND probability IS NOT NULL"),
        postgresql_where=sa.text("state = 'done' AND lane = 'live' AND probability IS NOT NULL"),
        postgresql_include=["model_version", "outcome", "probability"],
    )
    op.create_index(op.f("ix_jobs_finished_at"), "jobs", ["finished_at"])
    op.create_index(op.f("ix_jobs_outcome_finished_at"), "jobs", ["outcome", "finished_at"])
    op.create_index(
        "ix_jobs_shadows",
        "jobs",
        ["state"],
        sqlite_where=sa.text("purpose = 'shadow'"),
        postgresql_where=sa.text("purpose = 'shadow'"),
    )
    op.create_index(op.f("ix_jobs_state_lane_enqueued_at"), "jobs", ["state", "lane", "enqueued_at"])
    op.create_index(op.f("ix_jobs_study_id"), "jobs", ["study_id"])
    op.create_index(
        "ix_jobs_waiting",
        "jobs",
        ["lane", "purpose", "id"],
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_table(
        "events",
        sa.Column("id", KEY, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("study_id", KEY, nullable=True),
        sa.Column("job_id", KEY, nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_events_job_id_jobs")),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name=op.f("fk_events_study_id_studies")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index(op.f("ix_events_at"), "events", ["at"])
    op.create_index(op.f("ix_events_study_id"), "events", ["study_id"])
    op.create_table(
        "image_results",
        sa.Column("id", KEY, nullable=False),
        sa.Column("job_id", KEY, nullable=False),
        sa.Column("instance_id", KEY, nullable=False),
        sa.Column("frame_number", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("probability", sa.Float(), nullable=True),
        sa.Column("reason_code", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("analysis_seconds", sa.Float(), nullable=True),
        sa.Column("classifier_probability", sa.Float(), nullable=True),
        sa.Column("detector_score", sa.Float(), nullable=True),
        sa.Column("unlikeness", sa.Float(), nullable=True),
        sa.Column("warning", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "outcome IN ('present', 'inconclusive', 'failed', 'absent', 'out_of_scope')",
            name=op.f("ck_image_results_outcome"),
        ),
        sa.ForeignKeyConstraint(["instance_id"], ["instances.id"], name=op.f("fk_image_results_instance_id_instances")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_image_results_job_id_jobs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_image_results")),
        sa.UniqueConstraint(
            "job_id", "instance_id", "frame_number", name=op.f("uq_image_results_job_id_instance_id_frame_number")
        ),
    )
    op.create_index(op.f("ix_image_results_instance_id"), "image_results", ["instance_id"])
    op.create_table(
        "reanalysis_items",
        sa.Column("id", KEY, nullable=False),
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("job_id", KEY, nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("found_at", MOMENT, nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_attempt_at", MOMENT, nullable=True),
        sa.Column("retrieval_at", MOMENT, nullable=True),
        sa.Column("copy_here", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.Column("reason_code", sa.String(length=32), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('found', 'retrieving', 'retrieved', 'analysis', 'failed')",
            name=op.f("ck_reanalysis_items_state"),
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_reanalysis_items_job_id_jobs")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["reanalysis_runs.id"], name=op.f("fk_reanalysis_items_run_id_reanalysis_runs")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reanalysis_items")),
        sa.UniqueConstraint("run_id", "study_instance_uid", name=op.f("uq_reanalysis_items_run_id_study_instance_uid")),
    )
    op.create_index(
        "ix_reanalysis_items_copies",
        "reanalysis_items",
        ["study_instance_uid"],
        sqlite_where=sa.text("copy_here"),
        postgresql_where=sa.text("copy_here"),
    )
    op.create_index(op.f("ix_reanalysis_items_job_id"), "reanalysis_items", ["job_id"])
    op.create_index(
        "ix_reanalysis_items_retrieving",
        "reanalysis_items",
        ["study_instance_uid"],
        sqlite_where=sa.text("state = 'retrieving'"),
        postgresql_where=sa.text("state = 'retrieving'"),
    )
    op.create_index(op.f("ix_reanalysis_items_run_id_state"), "reanalysis_items", ["run_id", "state"])
    op.create_table(
        "replaced_instances",
        sa.Column("id", KEY, nullable=False),
        sa.Column("instance_id", KEY, nullable=False),
        sa.Column("replaced_at", MOMENT, nullable=False),
        sa.Column("patient_id", sa.String(length=64), nullable=True),
        sa.Column("issuer_of_patient_id", sa.String(length=64), nullable=True),
        sa.Column("transfer_syntax_uid", sa.String(length=64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("content_digest", sa.String(length=64), nullable=True),
        sa.Column("pixel_digest", sa.String(length=64), nullable=True),
        sa.Column("attributes_digest", sa.String(length=64), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("out_of_scope_reason", sa.Text(), nullable=True),
        sa.Column("calling_ae_title", sa.String(length=16), nullable=False),
        sa.Column("peer_address", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.Column("file_deleted_reason", sa.String(length=16), nullable=True),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instances.id"], name=op.f("fk_replaced_instances_instance_id_instances")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replaced_instances")),
    )
    op.create_index(op.f("ix_replaced_instances_instance_id"), "replaced_instances", ["instance_id"])
    op.create_index(op.f("ix_replaced_instances_replaced_at"), "replaced_instances", ["replaced_at"])
    op.create_table(
        "reports",
        sa.Column("id", KEY, nullable=False),
        sa.Column("job_id", KEY, nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=True),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=True),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=True),
        sa.Column("predecessor_sop_instance_uid", sa.String(length=64), nullable=True),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("built_at", MOMENT, nullable=False),
        sa.Column("file_deleted_at", MOMENT, nullable=True),
        sa.CheckConstraint("state IN ('built', 'failed')", name=op.f("ck_reports_state")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_reports_job_id_jobs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reports")),
        sa.UniqueConstraint("job_id", name=op.f("uq_reports_job_id")),
        sa.UniqueConstraint("sop_instance_uid", name=op.f("uq_reports_sop_instance_uid")),
    )
    op.create_index(
        "ix_reports_unbuilt",
        "reports",
        ["id"],
        sqlite_where=sa.text("state = 'failed'"),
        postgresql_where=sa.text("state = 'failed'"),
    )
    op.create_table(
        "companions",
        sa.Column("id", KEY, nullable=False),
        sa.Column("report_id", KEY, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=True),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=True),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=True),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("file_deleted_at", MOMENT, nullable=True),
        sa.CheckConstraint("kind IN ('capture', 'presentation')", name=op.f("ck_companions_kind")),
        sa.CheckConstraint("state IN ('built', 'failed')", name=op.f("ck_companions_state")),
        sa.ForeignKeyConstraint(["report_id"], ["reports.id"], name=op.f("fk_companions_report_id_reports")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_companions")),
        sa.UniqueConstraint("report_id", "kind", "number", name=op.f("uq_companions_report_id_kind_number")),
        sa.UniqueConstraint("sop_instance_uid", name=op.f("uq_companions_sop_instance_uid")),
    )
    op.create_table(
        "findings",
        sa.Column("id", KEY, nullable=False),
        sa.Column("image_result_id", KEY, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("x1", sa.Float(), nullable=False),
        sa.Column("y1", sa.Float(), nullable=False),
        sa.Column("x2", sa.Float(), nullable=False),
        sa.Column("y2", sa.Float(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["image_result_id"], ["image_results.id"], name=op.f("fk_findings_image_result_id_image_results")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_findings")),
        sa.UniqueConstraint("image_result_id", "number", name=op.f("uq_findings_image_result_id_number")),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", KEY, nullable=False),
        sa.Column("report_id", KEY, nullable=True),
        sa.Column("companion_id", KEY, nullable=True),
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", MOMENT, nullable=True),
        sa.Column("lease_token", sa.String(length=36), nullable=True),
        sa.Column("lease_until", MOMENT, nullable=True),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=True),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=True),
        sa.Column("transaction_uid", sa.String(length=64), nullable=True),
        sa.Column("commitment_requested_at", MOMENT, nullable=True),
        sa.Column("sent_at", MOMENT, nullable=True),
        sa.Column("committed_at", MOMENT, nullable=True),
        sa.Column("confirmed_by", sa.String(length=16), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'sending', 'sent', 'committed', 'failed')", name=op.f("ck_deliveries_state")
        ),
        sa.CheckConstraint("(report_id IS NULL) <> (companion_id IS NULL)", name=op.f("ck_deliveries_one_object")),
        sa.ForeignKeyConstraint(
            ["companion_id"], ["companions.id"], name=op.f("fk_deliveries_companion_id_companions")
        ),
        sa.ForeignKeyConstraint(["report_id"], ["reports.id"], name=op.f("fk_deliveries_report_id_reports")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("companion_id", "destination", name=op.f("uq_deliveries_companion_id_destination")),
        sa.UniqueConstraint("report_id", "destination", name=op.f("uq_deliveries_report_id_destination")),
    )
    op.create_index(op.f("ix_deliveries_committed_at"), "deliveries", ["committed_at"])
    op.create_index(op.f("ix_deliveries_report_id"), "deliveries", ["report_id"])
    op.create_index(op.f("ix_deliveries_sop_instance_uid"), "deliveries", ["sop_instance_uid"])
    op.create_index(op.f("ix_deliveries_state_next_attempt_at"), "deliveries", ["state", "next_attempt_at"])
    op.create_index(op.f("ix_deliveries_transaction_uid"), "deliveries", ["transaction_uid"])
    # ### end Alembic commands ###
