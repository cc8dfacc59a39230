"""The address of the database: what a site may write, and what SQLAlchemy and the driver need of it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

SQLITE = "sqlite"
POSTGRESQL = "postgresql+pg8000"
_DRIVERS = {
    "sqlite": SQLITE,
    "sqlite+pysqlite": SQLITE,
    "postgres": POSTGRESQL,
    "postgresql": POSTGRESQL,
    "postgresql+pg8000": POSTGRESQL,
}
_SSL_MODES = ("disable", "require", "verify-ca", "verify-full")


def parse_database_url(text: str) -> URL:
    """Return the URL with the driver that this project ships.

    Parameters
    ----------
    text : str
        ``sqlite:///<path>`` (an absolute path has four slashes) or ``postgresql://<user>:<password>@<host>/<name>``,
        the latter optionally with libpq's ``?sslmode=`` (disable, require, verify-ca, verify-full) and
        ``sslrootcert=<file>``.

    Raises
    ------
    ValueError
        In words that do not repeat the address: it may hold a password.
    """
    try:
        url = make_url(text.strip())
    except (ArgumentError, ValueError):
        raise ValueError("is not a database address") from None
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise ValueError("begins with neither sqlite:// nor postgresql://")
    if driver == SQLITE:
        return _check_sqlite(url.set(drivername=driver))
    if not url.database or not url.host:
        raise ValueError("names no host or no database")
    unknown = sorted(set(url.query) - {"sslmode", "sslrootcert"})
    if unknown:
        raise ValueError(f"has options other than sslmode and sslrootcert: {', '.join(unknown)}")
    if url.query.get("sslmode", "disable") not in _SSL_MODES:
        raise ValueError(f"has an sslmode other than {', '.join(_SSL_MODES)}")
    return url.set(drivername=driver)


def _check_sqlite(url: URL) -> URL:
    # A database in memory lives in one process; ours is shared by several.
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise ValueError("names no file: several processes share the database")
    if url.query:
        raise ValueError("has options; a plain path is wanted")
    return url.set(database=str(Path(url.database).expanduser()))


def driver_arguments(url: URL) -> tuple[URL, dict[str, Any]]:
    """Split a URL of `parse_database_url` into what SQLAlchemy takes and what goes to the driver.

    pg8000 knows libpq's TLS options only as an `ssl.SSLContext`. As in libpq, ``require`` encrypts without looking at
    the certificate, ``verify-ca`` checks who signed it and ``verify-full`` its host name as well.
    """
    if url.drivername == SQLITE:
        return url, {}
    mode = url.query.get("sslmode", "disable")
    bare = url.difference_update_query(["sslmode", "sslrootcert"])
    if mode == "disable":
        return bare, {"ssl_context": False}
    certificate = url.query.get("sslrootcert")
    context = ssl.create_default_context(cafile=certificate if isinstance(certificate, str) else None)
    context.check_hostname = mode == "verify-full"
    context.verify_mode = ssl.CERT_NONE if mode == "require" else ssl.CERT_REQUIRED
    return bare, {"ssl_context": context}
