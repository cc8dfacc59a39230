"""`health`: for a container's health check, one role of this machine, by its exit status."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.errors import ANSWER_IS_NO
from worker.cli.options import Home, settings_of
from worker.cli.screen import console, say_error

if TYPE_CHECKING:
    from worker.settings.settings import Settings


class Role(StrEnum):
    """The roles that run for long."""

    LISTEN = "listen"
    WORK = "work"
    SCHEDULE = "schedule"
    UI = "ui"


def health(role: Annotated[Role, typer.Argument(help="The role to look at.")], home: Home = None) -> None:
    """Say whether a role lives on this machine: exit status 0, or 1 with the reason. For health checks of containers.

    The database, the broker and the PACS have no part in it (`bonewatch doctor` looks at those): a container is not
    better for being restarted while they are away.
    """
    from worker.process.liveness import STALE_SECONDS, age_seconds, liveness_path

    settings = settings_of(home)
    if role in (Role.LISTEN, Role.UI):
        reason = _silent(settings, role)
    else:
        age = age_seconds(liveness_path(settings.run_folder, role.value))
        reason = None
        if age is None:
            reason = f"no {role.value} of this machine has given a sign of life"
        elif age > STALE_SECONDS:
            reason = f"the last sign of life of {role.value} is {age:.0f} s old"
    if reason is not None:
        say_error(reason)
        raise typer.Exit(ANSWER_IS_NO)
    console().print(f"{role.value} lives")


def _silent(settings: Settings, role: Role) -> str | None:
    """Connect as a PACS or a browser would, and no further: a caller that is not on the list would be a rejection."""
    import socket

    host, port = (
        (settings.dicom_host, settings.dicom_port) if role is Role.LISTEN else (settings.ui_host, settings.ui_port)
    )
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared
    try:
        socket.create_connection((here, port), timeout=5).close()
    except OSError:
        return f"nothing accepts connections on port {port}"
    return None
