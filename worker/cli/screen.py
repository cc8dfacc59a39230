"""What a person sees: consoles, tables, progress bars, and how an error is put."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dicom_io.header.printable import printable

WIDE, WIDEST = 200, 240
"""Columns from which on a terminal shows whole tables, with whole UIDs; and those of a file or a pipe."""
NARROWEST = 6
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


def console(*, stderr: bool = False, wide: bool = False) -> Console:
    """Return a console; output to a file or a pipe is wide enough for our tables, unless COLUMNS says how wide.

    With `wide` it is so on a terminal, too, which then breaks the lines.
    """
    stream = sys.stderr if stderr else sys.stdout
    told = stream.isatty() or os.environ.get("COLUMNS", "").isdigit()
    made = Console(stderr=stderr, width=None if told else WIDEST, highlight=False)
    if wide and made.width < WIDEST:
        made.width = WIDEST
    return made


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
            column,
            justify="right" if column in right else "left",
            overflow="fold",
            min_width=min(len(column), 8),
            no_wrap=column == "study",  # a UID is there to be copied
        )
    for row in rows:
        made.add_row(*(cell if isinstance(cell, str) else as_text(cell) for cell in row))
    return made


@dataclass(frozen=True, slots=True)
class ListRow:
    """One thing of a list: its cells and what stands below them, rich markup; an empty `below` is left out."""

    cells: Sequence[str]
    below: str = ""


def show_list(
    screen: Console, columns: Sequence[str], entries: Sequence[ListRow], *, right: Sequence[str] = (), cut: bool = True
) -> None:
    """Print entries on one or two lines each, whatever the width; a column that is too wide for all gives way.

    With `cut` what stands below ends with the line, else it goes on in as many as it needs.
    """
    rows = [[Text.from_markup(cell) for cell in entry.cells] for entry in entries]
    widths = [max(cell_len(name), *(row[place].cell_len for row in rows)) for place, name in enumerate(columns)]
    while sum(widths) + 2 * (len(widths) - 1) > screen.width and max(widths) > NARROWEST:
        widths[widths.index(max(widths))] -= 1
    screen.print(_line([Text(name, style="bold") for name in columns], columns, widths, right), no_wrap=True)
    for row, entry in zip(rows, entries, strict=True):
        screen.print(_line(row, columns, widths, right), no_wrap=True, overflow="ellipsis")
        if entry.below:
            below = Padding(Text.from_markup(entry.below, style="dim"), (0, 0, 0, 2))
            screen.print(below, no_wrap=cut, overflow="ellipsis" if cut else "fold")


def below(*words: object) -> str:
    """Return what stands below an entry; what is empty is left out."""
    return ", ".join(as_text(each) for each in words if each)


def _line(cells: Sequence[Text], columns: Sequence[str], widths: Sequence[int], right: Sequence[str]) -> Text:
    placed = []
    for cell, column, width in zip(cells, columns, widths, strict=True):
        cell.truncate(width, overflow="ellipsis")
        cell.align("right" if column in right else "left", width)
        placed.append(cell)
    return Text("  ").join(placed)


def as_text(value: object) -> str:
    """Return a value as a table shows it."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return escape(printable(str(value)))


def as_minute(moment: datetime) -> str:
    """Return a moment as a narrow table shows it: in local time, to the minute."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


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
