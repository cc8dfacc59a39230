"""What `--help` shows beside an option: the values to choose from, or what kind of value; nothing for a switch."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class HelpGroup(TyperGroup):
    """A group of commands whose help speaks of no types of Python."""

    def get_params(self, ctx: Any) -> Any:
        """Return the options of the group itself."""
        return _without_types(super().get_params(ctx), ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return one of its commands."""
        command = super().get_command(ctx, cmd_name)
        if command is not None and not isinstance(command, HelpGroup):
            _without_types(command.get_params(ctx), ctx)
        return command


def _without_types(parameters: Any, ctx: Any) -> Any:
    for each in parameters:
        if getattr(each, "is_flag", False):
            each.metavar = ""
        elif each.param_type_name == "argument" and "|" not in (each.display_type_rich(ctx) or ""):
            # Its own name says what it is, STUDY or BUNDLE_FOLDER, unless there are values to choose from.
            each.display_type_rich = _nothing
    return parameters


def _nothing(ctx: Any) -> None:
    """Say nothing of a type."""
