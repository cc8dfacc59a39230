"""Everything that this package raises on purpose.

    WorkerError
    ├── SettingsError                a setting is missing, malformed or contradicts another; names its variable
    └── DatabaseError                the database cannot be used
        ├── DatabaseUnavailable      it does not answer, is locked or full; try again later
        ├── DatabaseNotUpgraded      it has no schema or an older one: `bonewatch db upgrade`
        └── DatabaseTooNew           a newer bonewatch has upgraded it; this one must not touch it

Messages are words for an operator and never carry patient data or a password.
"""

# ruff: noqa: N818 - the names say the state that a caller meets, as those of httpx and of dicom_io do

from __future__ import annotations


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


class DatabaseTooNew(DatabaseError):
    """It has the schema of a newer bonewatch."""

    code = "database_too_new"
