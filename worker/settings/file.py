"""The settings file, `bonewatch.toml`: where it is, what stands in it, and the one that `bonewatch init` writes.

There is one file: the one that is named (``--config``, ``BONEWATCH_CONFIG``), else ``<home>/bonewatch.toml`` where that
exists. Its keys are the fields of `worker.settings.settings.Settings`, without sections. It may hold secrets: it is
written readable by its owner only.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from pydantic_settings import BaseSettings, TomlConfigSettingsSource

from worker.errors import SettingsError
from worker.settings.fields import secret_from_file

NAME = "bonewatch.toml"
TEMPLATE = "template.toml"
NOT_IN_A_FILE = "config"
"""The field that says which file it is."""
SETTING = re.compile(r"^#(\w+) = (.+?)(  # example)?$", re.MULTILINE)
"""A line of the template that shows a setting: its name, its value in TOML, and whether that is no default."""
RESEMBLES = 0.6
"""How alike a key and one of ours must be for "did you mean": every unknown key is refused, so a guess may be bold."""


def settings_path(named: str | Path | None, home: Path) -> Path:
    """Return where the settings file is: the named one, else the home's."""
    return (Path(named) if named else home / NAME).expanduser().absolute()


def find_file(named: str | Path | None, home: Path) -> Path | None:
    """Return the settings file: the named one, else the home's; None where nothing is named and the home has none.

    Raises
    ------
    worker.errors.SettingsError
        When the named one does not exist, or when it cannot be seen whether there is one.
    """
    path = settings_path(named, home)
    try:
        if path.is_dir():
            raise SettingsError(f"{path}: the settings file cannot be read: it is a folder")
        path.stat()
    except FileNotFoundError:
        if named:
            raise SettingsError(f"{path}: there is no such settings file; bonewatch init writes one") from None
        return None
    except OSError as error:
        raise SettingsError(f"{path}: the settings file cannot be read: {error.strerror}") from None
    return path


class SettingsFile(TomlConfigSettingsSource):
    """What stands in a settings file, as pydantic-settings takes it; `path` None for no file.

    1. Refuse what is no TOML, unknown keys, and true or false where something else is wanted.
    2. An empty text counts as unset, as an empty variable does.
    3. Paths that are relative are so to the file's folder: commands run anywhere.
    4. Take secrets from the files that ``database_url_file`` and the like name.

    Raises
    ------
    worker.errors.SettingsError
        One line a problem: the key, the file, what is wrong. No value is repeated: it may be a password.
    """

    def __init__(self, settings_cls: type[BaseSettings], path: Path | None, secrets: Sequence[str]) -> None:
        self.path = path
        self._secrets = tuple(secrets)
        self._fields = settings_cls.model_fields  # the base class reads the file before it knows them
        super().__init__(settings_cls, path)

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        try:
            # An editor of another system may have put a byte order mark before the text.
            given = tomllib.loads(file_path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise SettingsError(f"{file_path}: the settings file cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SettingsError(f"{file_path}: is not text in UTF-8") from None
        except tomllib.TOMLDecodeError as error:
            words = f"{file_path}: is not TOML: {error}; texts and paths stand in double quotes"
            raise SettingsError(words) from None
        if problems := [line for key, value in given.items() if (line := self._problem(key, value))]:
            raise SettingsError("\n".join(problems))
        kept = {key: self._whole(key, value) for key, value in given.items() if value != ""}
        for name in self._secrets:
            try:
                secret = secret_from_file(name, f"{name}_file", kept)
            except ValueError as error:
                problems.append(f"{error} ({file_path})")
            else:
                if secret is not None:
                    kept[name] = secret
            kept.pop(f"{name}_file", None)
        if problems:
            raise SettingsError("\n".join(problems))
        return kept

    def _problem(self, key: str, value: object) -> str | None:
        place = f"{key} in {self.path}"
        known = [name for name in (*self._fields, *(f"{name}_file" for name in self._secrets)) if name != NOT_IN_A_FILE]
        if key not in known:
            return f"{place}: {_unknown(key, value, known)}"
        if key.endswith("_file") and key not in self._fields and not isinstance(value, str):
            return f"{place}: wants the name of a file"
        if isinstance(value, bool) and not _takes(self._fields[key].annotation, bool):
            return f"{place}: is true or false; wants {self._fields[key].description}"
        return None

    def _whole(self, key: str, value: object) -> object:
        field = self._fields.get(key)
        is_path = key.removesuffix("_file") in self._secrets if field is None else _takes(field.annotation, Path)
        return self._beside(value) if is_path and isinstance(value, str) else value

    def _beside(self, value: str) -> str:
        if value.startswith("~") or self.path is None:
            return value
        return str(self.path.parent / value)


def _unknown(key: str, value: object, known: Sequence[str]) -> str:
    bare = key.lower().removeprefix("bonewatch_").replace("-", "_")
    alike = [bare] if bare in known else difflib.get_close_matches(bare, known, n=1, cutoff=RESEMBLES)
    if alike:
        return f"is no setting; did you mean {alike[0]}?"
    if isinstance(value, dict):
        return f"is no setting, and the file has no sections: take the line [{key}] away"
    return "is no setting; bonewatch settings lists them all"


def _takes(annotation: Any, kind: type) -> bool:
    """Say whether a field's type is this one, or a union or Annotated that holds it."""
    return annotation is kind or any(_takes(part, kind) for part in get_args(annotation))


def template() -> str:
    """Return the text of a new settings file: every setting with a comment, none of them set."""
    return (resources.files("worker.settings") / TEMPLATE).read_text(encoding="utf-8")


def names_in_template() -> tuple[str, ...]:
    """Return the settings in the order in which a new file has them."""
    return tuple(dict.fromkeys(found[1] for found in SETTING.finditer(template())))


def holds_secret(path: Path, secrets: Sequence[str]) -> bool:
    """Say whether a settings file that can be read has a secret in it, not only the name of a file that has."""
    return not tomllib.loads(path.read_text(encoding="utf-8-sig")).keys().isdisjoint(secrets)


def write_template(path: Path, *, replace: bool) -> Path | None:
    """Write a new settings file, readable by its owner only, in a folder that is made where there is none.

    Returns
    -------
    Path or None
        Where the file that was there before is now, if there was one.

    Raises
    ------
    FileExistsError
        When there is one and it is not to be replaced.
    OSError
        When it cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    earlier = None
    if replace and path.exists():
        earlier = path.with_name(f"{path.name}.before")
        path.replace(earlier)
    # O_EXCL: what somebody else has just written is not overwritten either.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123 - with a mode
        file.write(template())
    return earlier
