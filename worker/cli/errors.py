"""Exit statuses, and how an expected error is shown: one line of what is wrong, one of what to do, no traceback."""

from __future__ import annotations

import sys
from typing import Any

from worker.cli.help import HelpGroup

ANSWER_IS_NO = 1
"""The command did its work, and the answer is bad: a file failed, a check failed, not every report was committed."""
WRONG_USE = 2
"""An option or a setting is wrong."""
NOT_USABLE = 3
"""Something that the command needs cannot be used: database, broker, model, port, folder."""
INTERRUPTED = 130

ADVICE = {
    "settings": "correct it; `bonewatch settings` prints what is in force, the file of `bonewatch init` describes all",
    "database_unavailable": "see that the database runs and that BONEWATCH_DATABASE_URL is right (`bonewatch doctor`)",
    "queue_unavailable": "start bonewatch (`bonewatch up`), or see that BONEWATCH_REDIS_URL is right",
    "nothing_at_home": "see that --home (or BONEWATCH_HOME) names the right folder; `bonewatch up` makes a new one, "
    "and so does `bonewatch db upgrade`",
    "unknown_study": "bonewatch results lists the studies; --home names another home",
    "home_in_use": "stop the other one first, or choose another folder with --home",
    "BundleError": "install the bundle whole, or name another with BONEWATCH_BUNDLE",
    "store_unavailable": "see that the disk has room and that the folder belongs to you",
}


class Group(HelpGroup):
    """The root of all commands: turns errors that we raise on purpose into words and an exit status."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line; people write ``--config`` behind the command, too."""
        return super().parse_args(ctx, _config_first(args))

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.stderr.write("\ninterrupted\n")
            raise SystemExit(INTERRUPTED) from None
        except Exception as error:  # the edge of the process; what is not expected goes on
            status = _expected(error)
            if status is None:
                raise
            raise SystemExit(status) from None


def _config_first(words: list[str]) -> list[str]:
    """Return the words with ``--config FILE`` before all others; what stands behind ``--`` is no option."""
    end = words.index("--") if "--" in words else len(words)
    for place, word in enumerate(words[:end]):
        if word == "--config" or word.startswith("--config="):
            behind = place + 1 + (word == "--config")
            return words[place:behind] + words[:place] + words[behind:]
    return words


def _expected(error: Exception) -> int | None:
    """Show an expected error and return its exit status; None for any other."""
    from dicom_io.errors import DicomError
    from models.types import ModelError
    from worker.cli.screen import say_error
    from worker.errors import AmbiguousStudy, SettingsError, UnknownStudy, WorkerError

    if not isinstance(error, WorkerError | DicomError | ModelError):
        return None
    word = getattr(error, "code", type(error).__name__)
    say_error(str(error), ADVICE.get(word))
    if isinstance(error, UnknownStudy | AmbiguousStudy):
        return ANSWER_IS_NO
    return WRONG_USE if isinstance(error, SettingsError) else NOT_USABLE
