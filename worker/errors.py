"""Everything that this package raises on purpose.

    WorkerError
    ├── SettingsError                a setting is missing, malformed or contradicts another; names its variable
    ├── DatabaseError                the database cannot be used
    │   ├── DatabaseUnavailable      it does not answer, is locked or full; try again later
    │   ├── DatabaseNotUpgraded      it has no schema or an older one: `bonewatch db upgrade`
    │   └── DatabaseOfAnotherVersion a bonewatch that this one does not know has made it; it must not be touched
    ├── BrokerError                  the embedded broker cannot be started or stopped
    ├── QueueUnavailable             the broker does not answer; SQL still holds the work, the sweep sends it later
    ├── LeaseLost                    the job belongs to somebody else by now; everything done here is dropped
    ├── EnvironmentUnfit             this worker cannot analyse anything (no bundle, no store); not the study's fault
    ├── NothingAtHome                the folder that is named as home does not exist
    ├── UnknownStudy                 nobody has sent a study of this UID or accession number
    ├── AmbiguousStudy               several studies have this accession number
    ├── FilesDeleted                 the study's images were deleted here; the PACS has to send them again
    ├── StudyHeld                    the study waits for a decision: its images name different patients
    ├── StudyBusy                    work on the study runs or waits
    ├── ZipMemberUnreadable          a ZIP file, or a file in it, cannot be read
    ├── ExportRefused                results cannot be written where they should go
    └── SupervisionError             `bonewatch up` cannot run its child processes
        ├── ChildFailed              one ended, or was not ready in its time; holds its last lines
        ├── HomeInUse                another one runs in this home
        ├── StartRefused             a port or folder cannot be used, or the demonstration has nothing to show
        └── Interrupted              somebody asked to stop while they were starting

Messages are words for an operator and never carry patient data or a password.
"""

from __future__ import annotations

from collections.abc import Sequence


class WorkerError(Exception):
    """Base of all errors of worker. `code` is a stable word for SQL; `retryable` says whether waiting can help."""

    code = "worker_error"
    retryable = False


class SettingsError(WorkerError):
    """One line a problem, each beginning with the environment variable."""

    code = "settings"


class DatabaseError(WorkerError):
    """The database cannot be used."""

    code = "database"


class DatabaseUnavailable(DatabaseError):
    """It does not answer, is locked or full; waiting can help."""

    code = "database_unavailable"
    retryable = True


class DatabaseNotUpgraded(DatabaseError):
    """It has no schema, or that of an older bonewatch."""

    code = "database_not_upgraded"


class DatabaseOfAnotherVersion(DatabaseError):
    """It has a schema that this bonewatch does not know."""

    code = "database_too_new"


class BrokerError(WorkerError):
    """The embedded broker cannot be started or stopped."""

    code = "broker"


class QueueUnavailable(WorkerError):
    """The broker does not answer. SQL is the truth: the sweep sends the message later."""

    code = "queue_unavailable"
    retryable = True


class LeaseLost(WorkerError):
    """The job was given to somebody else, or is finished; what was computed here is dropped."""

    code = "lease_lost"


class EnvironmentUnfit(WorkerError):
    """The worker cannot analyse any study (no bundle, no store); the job is put back and no attempt is counted."""

    code = "environment"
    retryable = True


class NothingAtHome(WorkerError):
    """The folder that is named as home does not exist; whoever only looks must not make it."""

    code = "nothing_at_home"


class UnknownStudy(WorkerError):
    """No study of this UID or accession number has been received."""

    code = "unknown_study"


class AmbiguousStudy(WorkerError):
    """Several studies have the accession number, or the end of a UID, that was given."""

    code = "ambiguous_study"


class FilesDeleted(WorkerError):
    """The study's images were deleted here; the PACS has to send them again."""

    code = "files_deleted"


class StudyHeld(WorkerError):
    """The study waits for a decision: its images name different patients."""

    code = "study_held"


class StudyBusy(WorkerError):
    """Work on the study runs or waits; what was asked for has to wait for its end."""

    code = "study_busy"


class ZipMemberUnreadable(WorkerError):
    """A ZIP file, or a file in it, cannot be read; the message says why."""

    code = "zip_unreadable"


class ExportRefused(WorkerError):
    """Results cannot be written where they should go."""

    code = "export_refused"


class SupervisionError(WorkerError):
    """`bonewatch up` cannot run its child processes."""

    code = "supervision"


class ChildFailed(SupervisionError):
    """A child could not be brought up. `lines` are the last it printed."""

    code = "child_failed"

    def __init__(self, name: str, reason: str, lines: Sequence[str] = ()) -> None:
        super().__init__(f"{name} {reason}")
        self.name = name
        self.lines = tuple(lines)


class HomeInUse(SupervisionError):
    """Another `bonewatch up` works in this home."""

    code = "home_in_use"


class Interrupted(SupervisionError):
    """Somebody asked to stop while the children were still starting."""

    code = "interrupted"


class StartRefused(SupervisionError):
    """A port or folder cannot be used, or the demonstration has nothing to show."""

    code = "start_refused"
