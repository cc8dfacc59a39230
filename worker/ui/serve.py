"""The page's server: Streamlit behind the door."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from streamlit.starlette import App

from dicom_io.incident import incident
from worker.database import Database
from worker.errors import StartRefused
from worker.events import record
from worker.readiness import announce_ready
from worker.settings import Settings
from worker.table_base import utc_now
from worker.ui.login import Door
from worker.ui.people import People
from worker.up import check_port

log = structlog.get_logger(__name__)
SCRIPT = Path(__file__).with_name("app.py")
COOKIE = "bonewatch"


def check_page(settings: Settings) -> People | None:
    """Return the people who may look, None where only this machine reaches the page and no login is wanted.

    Raises
    ------
    worker.errors.StartRefused
        The page would show patients to whoever reaches it, or its port or password file cannot be used.
    """
    if settings.ui_password_file is None and not settings.ui_is_local:
        raise StartRefused(
            f"the page would listen on {settings.ui_host} and show patients to everybody there: make people with "
            "`bonewatch page-password` and set BONEWATCH_UI_PASSWORD_FILE, or leave BONEWATCH_UI_HOST unset"
        )
    check_port(settings.ui_host, settings.ui_port, "BONEWATCH_UI_PORT")
    if settings.ui_password_file is None:
        return None
    people = People(settings.ui_password_file)
    people.find("")
    return people


def build_app(settings: Settings, database: Database, people: People | None) -> App:
    """Return the ASGI application."""

    def told(kind: str, by: str) -> None:
        with database.write() as session:
            record(session, kind, utc_now(), by=by)

    @asynccontextmanager
    async def lifespan(_app: App) -> AsyncIterator[dict[str, Any]]:
        announce_ready()
        yield {}

    # Somebody else's page must not reach ours by a name of its own that leads here (DNS rebinding).
    hosts = ["localhost", "127.0.0.1", "[", settings.ui_host] if people is None else ["*"]
    return App(
        SCRIPT,
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
            Middleware(
                SessionMiddleware,
                secret_key=secrets.token_hex(32),
                session_cookie=COOKIE,
                max_age=settings.ui_login_minutes * 60,
                same_site="strict",
            ),
            Middleware(Door, people=people, told=told),
        ],
        lifespan=lifespan,
        on_script_error=_script_error,
    )


def serve(settings: Settings, database: Database, people: People | None) -> None:
    """Serve until told to stop."""
    build_app(settings, database, people).run(
        config={
            "server.address": settings.ui_host,
            "server.port": settings.ui_port,
            "server.headless": True,
            "server.fileWatcherType": "none",
            "server.maxUploadSize": settings.ui_upload_megabytes,
            "server.enableStaticServing": False,
            "browser.gatherUsageStats": False,
            "client.showErrorDetails": "none",
            "client.toolbarMode": "minimal",
            "client.disableDataExport": True,
            "theme.primaryColor": "#0b6bcb",
        }
    )


def _script_error(error: Exception) -> bool:
    """Log where a page failed, without a word of what it showed; the visitor reads that something went wrong."""
    log.error("page_failed", **incident(error))
    return False
