"""What a person sees: consoles, tables, progress bars, and how an error is put."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from dicom_io.printable import printable

WIDTH_WITHOUT_TERMINAL = 200
COLOURS = {
    "present": "bold red",
    "inconclusive": "yellow",
    "absent": "green",
    "failed": "magenta",
    "out_of_scope": "dim",
    "committed": "green",
    "sent": "yellow",
    "done": "green",
}


def console(*, stderr: bool = False) -> Console:
    """Return a console; output that goes to a file or a pipe is wide enough for our tables."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else WIDTH_WITHOUT_TERMINAL, highlight=False)


def say_error(message: str, advice: str | None = None) -> None:
    """Print what is wrong, and what to do about it."""
    screen = console(stderr=True)
    first, *rest = message.splitlines() or [""]
    screen.print(f"[bold red]error:[/] {escape(first)}", soft_wrap=True)
    for line in rest:
        screen.print(f"       {escape(line)}", soft_wrap=True)
    if advice:
        screen.print(f"[bold]what to do:[/] {escape(advice)}", soft_wrap=True)


def coloured(word: str | None) -> str:
    """Return an outcome or a state with its colour, as rich markup."""
    if not word:
        return "-"
    style = COLOURS.get(word)
    return f"[{style}]{escape(word)}[/]" if style else escape(word)


def table(
    title: str | None, columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()
) -> Table:
    """Return a table; cells are plain text unless they are rich objects. `right` names the columns of numbers."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        made.add_column(
            column, justify="right" if column in right else "left", overflow="fold", min_width=min(len(column), 8)
        )
    for row in rows:
        made.add_row(*(cell if isinstance(cell, str) else as_text(cell) for cell in row))
    return made


def as_text(value: object) -> str:
    """Return a value as a table shows it."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return escape(printable(str(value)))


def progress(*, visible: bool = True, screen: Console | None = None) -> Progress:
    """Return a progress bar with the time left, on standard error; none where nobody watches.

    Who prints to the terminal meanwhile names the console that is printed on as `screen`.
    """
    on = screen if screen is not None and screen.is_terminal else console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=on,
        transient=True,
        redirect_stdout=False,  # what is piped must not end on the terminal
        disable=not (visible and on.is_terminal),
    )


def print_json(value: Any) -> None:
    """Print a value as JSON, UTF-8, moments in ISO 8601."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=_as_json) + "\n")


def _as_json(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")
