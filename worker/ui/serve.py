"""The page's server: Streamlit behind the login."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import streamlit as st
import structlog
from anyio import CapacityLimiter, to_thread
from sqlalchemy.exc import SQLAlchemyError
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Route
from streamlit import runtime
from streamlit.starlette import App

from dicom_io.network.incident import incident
from worker.db.base import utc_now
from worker.db.database import Database
from worker.db.events import record
from worker.errors import DatabaseError
from worker.process.readiness import announce_ready
from worker.settings.settings import Settings
from worker.ui.access.login import LoginMiddleware
from worker.ui.access.login_methods import LoginMethods
from worker.ui.access.stale_sessions import StaleSessions
from worker.ui.access.upload_quota import Quota, UploadQuota, held_by_streamlit

log = structlog.get_logger(__name__)
SCRIPT = Path(__file__).with_name("app.py")
COOKIE = "bonewatch"
AUDIT_THREADS = 4
NO_DATABASE = (
    "The database cannot be used now, so this page is not complete, and what was pressed last may not have been done. "
    "Try again in a minute. If it stays so, tell your administrator: the log of the page's service has the reason."
)
PAGES = tuple(f"worker.ui.{file.stem}" for file in sorted(SCRIPT.parent.glob("page_*.py")))


def build_app(settings: Settings, database: Database, methods: LoginMethods) -> App:
    """Return the ASGI application."""

    @asynccontextmanager
    async def lifespan(_app: App) -> AsyncIterator[dict[str, Any]]:
        for page in PAGES:  # the first visitor must not wait for what they import
            import_module(page)
        watching = asyncio.create_task(_stale_sessions().watch())
        announce_ready()
        yield {}
        watching.cancel()

    # Somebody else's page must not reach ours by a name of its own that leads here (DNS rebinding). Of an IPv6 address
    # the middleware compares what stands before its first colon.
    hosts = ["localhost", "127.0.0.1", "[", settings.ui_host] if methods.is_open else ["*"]
    return App(
        SCRIPT,
        routes=[Route("/worklist", _to_worklist)],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
            Middleware(
                SessionMiddleware,
                secret_key=secrets.token_hex(32),
                session_cookie=COOKIE,
                max_age=settings.ui_login_minutes * 60,
                # Not strict: the way back from an identity provider begins on the provider's page.
                same_site="lax",
                https_only=settings.ui_secure_cookie or methods.is_behind_tls,
            ),
            Middleware(
                LoginMiddleware,
                methods=methods,
                login_seconds=settings.ui_login_minutes * 60,
                audit=audit_recorder(database),
            ),
            Middleware(
                UploadQuota,
                quota=Quota(settings.ui_uploads, settings.ui_upload_megabytes * 2**20),
                held=held_by_streamlit,
            ),
            # Streamlit compresses all but its scripts, 3.5 MB of them.
            Middleware(GZipMiddleware, compresslevel=5),
        ],
        lifespan=lifespan,
        on_script_error=script_error,
    )


def audit_recorder(database: Database) -> Callable[[str, str], Awaitable[None]]:
    """Return what records an event of the login: in a thread, for all visitors share the event loop."""
    # Of their own: while the database is locked, they must not take the threads that everything else runs in.
    limiter = CapacityLimiter(AUDIT_THREADS)

    def write(kind: str, by: str) -> None:
        with database.write() as session:
            record(session, kind, utc_now(), by=by)

    async def record_in_thread(kind: str, by: str) -> None:
        await to_thread.run_sync(write, kind, by, limiter=limiter)

    return record_in_thread


def serve(settings: Settings, database: Database, methods: LoginMethods) -> None:
    """Serve until told to stop."""
    # Streamlit's own log of a page that failed is the whole traceback, whose words may be a patient's; ours says where.
    # Without Rich it goes through the logger.
    logging.getLogger("streamlit.error_util").disabled = True
    build_app(settings, database, methods).run(
        config={
            "server.address": settings.ui_host,
            "server.port": settings.ui_port,
            "server.headless": True,
            "server.fileWatcherType": "none",
            "server.maxUploadSize": settings.ui_upload_megabytes,
            "server.enableStaticServing": False,
            # The quota of uploads knows their address at the root alone.
            "server.baseUrlPath": "",
            "browser.gatherUsageStats": False,
            "client.showErrorDetails": "none",
            "logger.enableRich": False,
            "client.toolbarMode": "minimal",
            "client.disableDataExport": True,
            # One for each scheme: with one for both, Streamlit no longer follows the visitor's choice.
            "theme.light.primaryColor": "#0b6bcb",
            "theme.dark.primaryColor": "#6cb2ff",
        }
    )


def _stale_sessions() -> StaleSessions:
    return StaleSessions(
        held_by_streamlit,
        lambda session: runtime.get_instance().is_active_session(session),
        lambda session: runtime.get_instance().close_session(session),
    )


def _to_worklist(request: Request) -> RedirectResponse:
    """Lead to the worklist with its filters: Streamlit serves the first of its pages at `/` and nowhere else."""
    return RedirectResponse(f"/?{request.url.query}" if request.url.query else "/")


def script_error(error: Exception) -> bool:
    """Log where a page failed, without a word of what it showed, and say so if it is the database; True: it was said.

    Streamlit asks here for whole pages and for the parts that refresh themselves, which run without `app.py`.
    """
    # The words of our own errors are an operator's; those of others may be a patient's.
    reason = {"reason": str(error)} if isinstance(error, DatabaseError) else {}
    log.error("page_failed", **incident(error), **reason)
    if not isinstance(error, (DatabaseError, SQLAlchemyError)):
        return False
    st.error(NO_DATABASE)
    return True
