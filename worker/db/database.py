"""One database, several processes: connections, transactions, and the version of the schema.

SQLite (the default) and PostgreSQL (by URL, through pg8000) run the same code. On SQLite

- the journal is a WAL, so that readers never wait for the writer;
- a transaction that writes begins as IMMEDIATE. It waits its turn *before* it reads, within the busy timeout; one
  that begins as a reader and writes later fails at once with "database is locked" when another wrote in between;
- ``synchronous`` is FULL: every commit is on the disk when it returns. The WAL's usual NORMAL may lose the last
  commits in a power cut, and a sender that was answered Success will not send again.

A `Database` must not cross a fork: build it in the process that uses it.
"""

from __future__ import annotations

import functools
import sqlite3
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import CursorResult, Engine, Insert, UpdateBase, create_engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from worker.errors import DatabaseNotUpgraded, DatabaseOfAnotherVersion, DatabaseUnavailable
from worker.settings.connection_url import SQLITE, driver_arguments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL, Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
    from sqlalchemy.orm import DeclarativeBase

MIGRATIONS = Path(__file__).with_name("migrations")
READ_ONLY = "bonewatch_read_only"
UPGRADE_LOCK = 0x626F6E65
"""Key of the advisory lock that lets one process at a time upgrade a PostgreSQL database ("bone")."""
UPGRADE_WAIT_SECONDS = 300.0


class Database:
    """A pool of connections to one database.

    Parameters
    ----------
    url : sqlalchemy.URL
        As `worker.settings.connection_url.parse_database_url` returns it.
    timeout_seconds : float
        How long a statement waits: on SQLite for the writer before it, on PostgreSQL for the server's answer.
    """

    def __init__(self, url: URL, timeout_seconds: float = 30.0) -> None:
        self.url = url
        self.timeout_seconds = timeout_seconds
        self.engine = _create_engine(url, timeout_seconds)
        self._reader = self.engine.execution_options(**{READ_ONLY: True})

    def __repr__(self) -> str:
        return f"Database({self.url!s})"

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a transaction that may write; commit it when the block ends, roll back when it raises.

        Raises
        ------
        worker.errors.DatabaseUnavailable
            When the database does not answer, is locked or full; nothing was written.
        """
        with _translated(), Session(self.engine, expire_on_commit=False) as session, session.begin():
            # The transaction, and with it SQLite's turn to write, begins here and not at the first statement.
            session.connection()
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a transaction that only reads: it sees one state of the database and waits for no writer.

        Raises
        ------
        worker.errors.DatabaseUnavailable
            When the database does not answer.
        """
        with _translated(), Session(self._reader, autoflush=False, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close all connections that are not in use."""
        self.engine.dispose()


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what a driver raises when waiting can help into `DatabaseUnavailable`; constraint errors pass."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise DatabaseUnavailable(_words(error)) from error
    except DBAPIError as error:
        if error.connection_invalidated or _is_postgresql_trouble(error):
            raise DatabaseUnavailable(_words(error)) from error
        raise


def _is_postgresql_trouble(error: DBAPIError) -> bool:
    # pg8000 raises one class for all that the server answers; the SQLSTATE class tells trouble from mistakes:
    # 08 connection, 25006 read-only, 28 who we are, 3D no such database, 40 serialization and deadlock, 53 resources,
    # 55P03 lock, 57 operator, 58 system.
    detail = error.orig.args[0] if error.orig is not None and error.orig.args else None
    state = str(detail.get("C", "")) if isinstance(detail, dict) else ""
    return state[:2] in ("08", "28", "3D", "40", "53", "57", "58") or state in ("25006", "55P03")


def _words(error: Exception) -> str:
    # Never str(error): SQLAlchemy appends the statement's parameters, which are patient data.
    cause = error.orig if isinstance(error, DBAPIError) else error
    detail = cause.args[0] if cause is not None and cause.args else ""
    words = detail.get("M", "") if isinstance(detail, dict) else detail
    return f"the database cannot be used: {str(words).splitlines()[0] if words else type(cause).__name__}"


def changed_rows(session: Session, statement: UpdateBase) -> int:
    """Run an UPDATE or DELETE and return how many rows it changed."""
    result = cast("CursorResult[Any]", session.execute(statement))
    return result.rowcount


def insert_new(session: Session, table: type[DeclarativeBase], key: str, values: dict[str, object]) -> Insert:
    """Return an INSERT that waits for whoever inserts the same key, and does nothing where that one succeeds."""
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(table).values(**values).on_conflict_do_nothing(index_elements=[key])
    return sqlite.insert(table).values(**values).on_conflict_do_nothing(index_elements=[key])


def open_database(url: URL, timeout_seconds: float = 30.0) -> Database:
    """Open a database that has this version's schema.

    Raises
    ------
    worker.errors.DatabaseNotUpgraded, worker.errors.DatabaseOfAnotherVersion
        When it has another one.
    worker.errors.DatabaseUnavailable
        When it does not answer.
    """
    database = Database(url, timeout_seconds)
    try:
        check_revision(database)
    except BaseException:
        database.close()
        raise
    return database


def current_revision(database: Database) -> str | None:
    """Return the revision of the schema that the database has, or None where it has none."""
    if _is_missing_file(database.url):
        return None
    with database.read() as session:
        return MigrationContext.configure(session.connection()).get_current_revision()


def check_revision(database: Database) -> None:
    """Refuse a database whose schema is not the one this code was written for.

    Raises
    ------
    worker.errors.DatabaseNotUpgraded, worker.errors.DatabaseOfAnotherVersion, worker.errors.DatabaseUnavailable
    """
    _compare(_scripts(), current_revision(database), database.url)


@functools.cache
def _scripts() -> ScriptDirectory:
    """Return the migrations of this version; they are read once, as every task opens the database."""
    return ScriptDirectory.from_config(_alembic_config())


def _compare(scripts: ScriptDirectory, revision: str | None, url: URL) -> None:
    head = scripts.get_current_head()
    if revision == head:
        return
    if revision is not None and revision not in {script.revision for script in scripts.walk_revisions()}:
        raise DatabaseOfAnotherVersion(
            f"the database {url} is of another bonewatch, a newer one or one before the first release "
            f"(schema {revision}, this one knows {head}): install that version, or restore the backup made before "
            "the upgrade"
        )
    state = "has no tables yet" if revision is None else f"has the older schema {revision}, not {head}"
    raise DatabaseNotUpgraded(f"the database {url} {state}: run `bonewatch db upgrade`")


def upgrade(url: URL) -> tuple[str | None, str]:
    """Bring a database to this version's schema, making it where there is none. Safe to run twice at once.

    1. Make the folder of an SQLite file, readable by its owner only: it will hold patient data.
    2. Take the right to upgrade: SQLite's write lock, PostgreSQL's advisory lock.
    3. Refuse a newer schema; run the missing migrations. All in one transaction: an upgrade happens or does not.

    Returns
    -------
    tuple of (str or None, str)
        The revision before and after.

    Raises
    ------
    worker.errors.DatabaseOfAnotherVersion, worker.errors.DatabaseUnavailable
    """
    if url.drivername == SQLITE:
        _prepare_file(url)
    database = Database(url, timeout_seconds=UPGRADE_WAIT_SECONDS)
    config = _alembic_config()
    scripts = ScriptDirectory.from_config(config)
    try:
        with _translated(), database.engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": UPGRADE_LOCK})
            before = MigrationContext.configure(connection).get_current_revision()
            try:
                _compare(scripts, before, url)
            except DatabaseNotUpgraded:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
            after = MigrationContext.configure(connection).get_current_revision()
        return before, str(after)
    finally:
        database.close()


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _is_missing_file(url: URL) -> bool:
    # Connecting would make an empty file, and the next reader would wonder who did.
    return url.drivername == SQLITE and not Path(url.database or "").exists()


def _prepare_file(url: URL) -> None:
    path = Path(url.database or "")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        raise DatabaseUnavailable(f"the database cannot be made at {path}: {error.strerror}") from error
    _use_wal(url)


def _use_wal(url: URL) -> None:
    """Switch the file to a WAL, which it stays for good.

    Two processes that switch at the same moment meet a lock that SQLite's busy timeout does not cover.
    """
    deadline = time.monotonic() + UPGRADE_WAIT_SECONDS
    while True:
        try:
            with closing(sqlite3.connect(url.database or "", isolation_level=None)) as connection:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(f"the database {url} cannot use a WAL: {error}") from error
            time.sleep(0.05)
            continue
        except sqlite3.DatabaseError as error:
            raise DatabaseUnavailable(f"the database {url} cannot be opened: {error}") from error
        if mode != "wal":
            raise DatabaseUnavailable(f"the database {url} cannot use a WAL here; a network folder cannot hold it")
        return


def _create_engine(url: URL, timeout_seconds: float) -> Engine:
    address, arguments = driver_arguments(url)
    if url.drivername == SQLITE:
        # A connection is a file that is open: nobody waits for one, and then for the writer before him as well.
        engine = create_engine(
            address, connect_args={"timeout": timeout_seconds}, max_overflow=-1, hide_parameters=True
        )
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    arguments |= {"timeout": timeout_seconds, "application_name": "bonewatch"}
    # hide_parameters: what SQLAlchemy says of a failed statement holds no values, for they are patient data.
    engine = create_engine(
        address,
        connect_args=arguments,
        client_encoding="utf8",
        pool_pre_ping=True,
        pool_timeout=timeout_seconds,
        hide_parameters=True,
    )
    event.listen(engine, "handle_error", _drop_connection)
    return engine


def _drop_connection(context: ExceptionContext) -> BaseException | None:
    # pg8000 lets a socket's own errors pass. After a timeout the late answer would be read as that of the next
    # statement: the connection must not be used again.
    error = context.original_exception
    if not isinstance(error, OSError):
        return None
    context.is_disconnect = True
    return DatabaseUnavailable(f"the database does not answer: {error.strerror or error}")


def _configure_sqlite(connection: DBAPIConnection, _record: Any) -> None:
    # Python's driver begins transactions by itself, late and never as IMMEDIATE; from here on we do.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(READ_ONLY)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
