"""`up`, and the roles one by one: `listen`, `work`, `schedule`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from worker.cli.errors import NOT_USABLE
from worker.cli.options import Home, database_of, settings_of
from worker.cli.screen import console, say_error

if TYPE_CHECKING:
    from worker.settings.settings import Settings

KILLED_PREDECESSOR_SECONDS = 10.0


def up(
    home: Home = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show what the services log; else only <home>/logs has it.")
    ] = False,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Serve the web page, too.")] = True,
) -> None:
    """Run everything on this machine: broker, database, listener, analysis, deliveries, page. Ctrl-C stops it."""
    from worker.errors import ChildFailed, Interrupted
    from worker.process.home_lock import LOCK_NAME, HomeLock
    from worker.process.stopping import StopRequest
    from worker.process.supervisor import Supervisor, Surroundings
    from worker.process.up import explain, log_folder, make_home, prepare, roles

    request = StopRequest()
    request.install()
    settings = settings_of(home)
    screen = console()
    make_home(settings)
    lock = HomeLock(settings.run_folder / LOCK_NAME)
    lock.acquire(KILLED_PREDECESSOR_SECONDS, request.event)
    version = prepare(settings)
    if page:
        from worker.ui.access.login_methods import check_page

        check_page(settings)
    surroundings = Surroundings(
        log_folder(settings),
        say=lambda line: screen.print(escape(line)),
        stop=request.event,
        lock=lock,
        echo=(lambda name, line: screen.print(f"[dim]{name:>8}[/] {escape(line)}", soft_wrap=True))
        if verbose
        else None,
    )
    supervisor = Supervisor(roles(settings, {}, page=page), surroundings)
    try:
        with screen.status("starting") as status:
            supervisor.start(lambda name: status.update(f"starting {name}"))
        _greet(settings, version, page=page)
        supervisor.run()
    except Interrupted:
        pass
    except ChildFailed as failure:
        say_error(explain(failure, surroundings.log_folder))
        for line in failure.lines[-15:]:
            console(stderr=True).print(f"  | {escape(line)}", soft_wrap=True)
        raise typer.Exit(NOT_USABLE) from None
    finally:
        screen.print("stopping: what is being analysed is finished first (Ctrl-C again: at once)")
        supervisor.stop(request.is_urgent)
        lock.release()
    screen.print("stopped")


def _greet(settings: Settings, version: str, *, page: bool) -> None:
    from rich.table import Table

    from worker.process.up import addresses
    from worker.settings.choices import CHOICES
    from worker.settings.file import NAME

    facts = Table.grid(padding=(0, 2))
    facts.add_row("[bold]Enter in your PACS[/]", "")
    facts.add_row("  AE title", f"[bold]{escape(settings.ae_title)}[/]")
    facts.add_row("  host", f"[bold]{escape(addresses(settings))}[/]")
    facts.add_row("  port", f"[bold]{settings.dicom_port}[/]")
    if page:
        facts.add_row("Web page", f"[bold]http://{escape(settings.ui_host)}:{settings.ui_port}[/]")
    facts.add_row("Reports go to", escape(_destinations(settings)))
    facts.add_row("Settings", escape(str(settings.config or "defaults (bonewatch init writes a file)")))
    facts.add_row("Data", escape(str(settings.home)))
    facts.add_row("Database", escape(str(settings.sqlalchemy_url())))
    facts.add_row("Model", f"{escape(version)}  (decision support, never a diagnosis)")
    facts.add_row("Look at", "bonewatch status, bonewatch results, bonewatch doctor")
    screen = console()
    screen.print("[bold green]bonewatch is running.[/] Ctrl-C stops it.")
    screen.print(facts, soft_wrap=True)
    for line in settings.unchosen():
        screen.print(f"[yellow]not chosen yet:[/] {escape(line)}", soft_wrap=True)
    if not settings.destinations:
        file = settings.config or settings.home / NAME
        screen.print(
            f"[yellow]to send reports:[/] {escape(CHOICES['destinations'].example)} in {escape(str(file))}",
            soft_wrap=True,
        )


def _destinations(settings: Settings) -> str:
    listed = [f"{each.name} ({each.ae_title} at {each.host}:{each.port})" for each in settings.destinations]
    return ", ".join(listed) or "nowhere yet"


def listen(home: Home = None) -> None:
    """Receive studies from a PACS (C-STORE, C-ECHO, answers of storage commitment)."""
    from worker.errors import StartRefused
    from worker.process.logs import configure_logs
    from worker.process.readiness import announce_ready
    from worker.process.stopping import StopRequest
    from worker.queue.bootstrap import build_listener
    from worker.reception.receptions import RECEPTION_SECONDS

    request = StopRequest()
    request.install()
    settings = settings_of(home)
    configure_logs(settings.log_format, settings.log_level)
    database = database_of(settings, timeout_seconds=RECEPTION_SECONDS)
    try:
        listener = build_listener(settings, database)
        try:
            listener.start()
        except OSError as error:
            raise StartRefused(
                f"cannot listen on {settings.dicom_host} port {settings.dicom_port}: {error.strerror or error}; "
                "choose another with BONEWATCH_DICOM_PORT"
            ) from error
        announce_ready()
        request.event.wait()
        listener.stop()
    finally:
        database.close()


def work(home: Home = None) -> None:
    """Analyse studies: serve the queues live and archive, live first."""
    _serve("work", settings_of(home))


def schedule(home: Home = None) -> None:
    """Close quiet studies, send reports and ask whether they are committed. Several may run at once."""
    _serve("schedule", settings_of(home))


def _serve(role: str, settings: Settings) -> None:
    from models.manifest import SHIPPED, read_manifest
    from worker.process.logs import configure_logs
    from worker.queue.app import run_worker

    configure_logs(settings.log_format, settings.log_level)
    read_manifest(settings.installed_bundle() or SHIPPED)
    database_of(settings).close()
    status = run_worker("work" if role == "work" else "schedule", settings)
    raise typer.Exit(status)


def broker(home: Home = None) -> None:
    """Run the embedded broker alone; `up` does."""
    from worker.errors import BrokerError
    from worker.process.readiness import announce_ready
    from worker.process.stopping import StopRequest
    from worker.queue.broker import EmbeddedBroker

    request = StopRequest()
    request.install()
    with EmbeddedBroker(settings_of(home).home) as server:
        announce_ready()
        while not request.event.wait(0.5):
            if not server.is_running():
                raise BrokerError("the embedded broker has ended by itself")
