"""What `bonewatch up` is made of: the checks before, and the child processes."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from models.manifest import SHIPPED, read_manifest
from worker.db.database import upgrade
from worker.errors import ChildFailed, StartRefused
from worker.process.child import ChildSpec
from worker.settings.settings import Settings

# -P: the current folder must not be searched for modules, whatever lies in it.
COMMAND = (sys.executable, "-P", "-m", "worker.cli")
STOP_MARGIN_SECONDS = 3.0
BROKER_STOP_SECONDS = 10.0


def make_home(settings: Settings) -> None:
    """Make the home, readable by its owner only: it will hold patient data.

    Raises
    ------
    worker.errors.StartRefused
        When it cannot be made.
    """
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.run_folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StartRefused(f"the folder {settings.home} cannot be made: {error.strerror}") from error


def prepare(settings: Settings) -> str:
    """Make everything ready that the roles need, and refuse at once what would fail later.

    1. The bundle's manifest.
    2. The database, made or upgraded.
    3. The listener's port.

    Returns
    -------
    str
        The version of the model.

    Raises
    ------
    worker.errors.StartRefused, worker.errors.DatabaseError, models.types.BundleError
        What is wrong.
    """
    version = read_manifest(settings.installed_bundle() or SHIPPED).version
    upgrade(settings.sqlalchemy_url())
    check_port(settings.dicom_host, settings.dicom_port)
    return version


def check_port(host: str, port: int, variable: str = "BONEWATCH_DICOM_PORT") -> None:
    """Refuse an address that could not be bound; `variable` is the setting that chooses another.

    Raises
    ------
    worker.errors.StartRefused
        With what to do about it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartRefused(
                f"cannot listen on {host} port {port}: {(error.strerror or str(error)).lower()}; another program, "
                f"perhaps another bonewatch, may run there: choose another with {variable}"
            ) from error


def roles(settings: Settings, environment: Mapping[str, str], *, page: bool = False) -> tuple[ChildSpec, ...]:
    """Return the children in the order in which they start; all of them have these settings.

    The listener comes before the deliveries and goes after them: a PACS answers a request for storage commitment on an
    association of its own (PS3.4 J.3.3), and does not call again where nobody listens. What it receives meanwhile
    waits in the store.
    """
    # A child that is started again next week has the settings of today, as the others do.
    surroundings = {**environment, **settings.as_environment()}
    # A little more than the role allows itself: it must be able to end what is left over before it is killed.
    stop_seconds = settings.stop_seconds + STOP_MARGIN_SECONDS

    def role(name: str, seconds: float = stop_seconds, *, last: bool = False) -> ChildSpec:
        return ChildSpec(name, (*COMMAND, name), surroundings, stop_seconds=seconds, stops_last=last)

    broker = (role("broker", BROKER_STOP_SECONDS, last=True),) if settings.uses_embedded_broker else ()
    ui = (role("ui"),) if page else ()
    return (*broker, role("listen", last=True), role("schedule"), role("work"), *ui)


def explain(failure: ChildFailed, log_folder: Path) -> str:
    """Say in words which child failed and where to read more."""
    return f"{failure}; its log is {log_folder / failure.name}.log"


def addresses(settings: Settings) -> str:
    """Return the host to enter in a PACS: the address that is listened on, or this machine's name and address."""
    if settings.dicom_host not in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not bound
        return settings.dicom_host
    name = socket.gethostname()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # A datagram socket that "connects" sends nothing; it only learns its own address (TEST-NET-1, RFC 5737).
            probe.connect(("192.0.2.1", 9))
            return f"{name} ({probe.getsockname()[0]})"
        except OSError:
            return name


def log_folder(settings: Settings) -> Path:
    """Return where the children's output goes."""
    return settings.home / "logs"
