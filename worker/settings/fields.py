"""The parts that the settings are made of: field types, how text becomes them, how a problem becomes words."""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic_core import ErrorDetails

PEER_KEYS = ("name", "ae_title", "host", "port", "confirm", "answers_from", "retrieve", "url")
"""The keys of a destination and of an archive."""
SYNONYMS = {"aet": "ae_title", "aetitle": "ae_title", "ae": "ae_title", "ip": "host", "address": "host"}
PLAIN = {
    "missing": "is missing",
    "tuple_type": "is no list",
    "model_type": "is no object with a name and a value for each key",
    "model_attributes_type": "is no object with a name and a value for each key",
    "dict_type": "is no object with a name and a value for each key",
    "int_parsing": "is no whole number",
    "int_type": "is no whole number",
    "float_parsing": "is no number",
    "bool_parsing": "is neither true nor false",
    "string_type": "is no text",
}
"""What pydantic says of types of Python, in words for the person who wrote the setting."""
LOOKS_LIKE = 0.85
"""How alike a variable and one of ours must be to count as a misspelling (ratio of `difflib`)."""


def check_ae_title(value: str) -> str:
    """Return an AE title without its padding.

    Raises
    ------
    ValueError
        PS3.5 6.2, VR AE: 1 to 16 characters of the default repertoire, no backslash, no control characters.
    """
    title = value.strip(" ")
    if not 1 <= len(title) <= 16 or not title.isascii() or not title.isprintable() or "\\" in title:
        raise ValueError("is not an AE title (1 to 16 characters, no backslash)")
    return title


AeTitle = Annotated[str, AfterValidator(check_ae_title)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class AllowedCallerSetting(BaseModel):
    """An AE that may push, from anywhere or from one host only; written ``AE`` or ``AE@host``."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    ae_title: AeTitle
    host: str | None = Field(default=None, min_length=1, max_length=253)


class DestinationSetting(BaseModel):
    """A PACS that receives reports, as a site writes it.

    `answers_from` names who reports its storage commitments, where that is not `ae_title` at `host`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    ae_title: AeTitle
    host: str = Field(min_length=1, max_length=253)
    port: Port
    confirm: Literal["commitment", "find", "store"] = "commitment"
    answers_from: tuple[AllowedCallerSetting, ...] = ()

    @field_validator("answers_from", mode="before")
    @classmethod
    def _split_callers(cls, value: object) -> object:
        return as_callers(value)


def as_list(value: object) -> object:
    """Split text at commas, or read it as a JSON list; anything else is left to pydantic."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return _json(value)
    return tuple(word.strip() for word in value.split(",") if word.strip())


def as_words(value: object) -> object:
    """Read a list of DICOM code strings, which are upper case (PS3.5 6.2, VR CS)."""
    words = as_list(value)
    return tuple(str(word).strip().upper() for word in words) if isinstance(words, list | tuple) else words


def as_callers(value: object) -> object:
    """Read a list of ``AE`` and ``AE@host``."""
    words = as_list(value)
    return tuple(_caller(word) for word in words) if isinstance(words, list | tuple) else words


def _caller(word: object) -> object:
    if not isinstance(word, str):
        return word
    title, _, host = word.partition("@")
    return {"ae_title": title, "host": host.strip()} if host else {"ae_title": title}


def as_objects(value: object) -> object:
    """Read text as JSON: an object, or a list of them."""
    return _json(value) if isinstance(value, str) else value


def as_list_of_objects(value: object) -> object:
    """Read text as a JSON list of objects.

    Raises
    ------
    ValueError
        Where one object stands by itself, as in a TOML section.
    """
    read = as_objects(value)
    if isinstance(read, dict):
        # A ValueError is what pydantic turns into words.
        raise ValueError("is one object, and a list of them is wanted: put it into square brackets")  # noqa: TRY004
    return read


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at character {error.pos + 1}") from None


def secret_from_file(name: str, file_name: str, given: Mapping[str, Any]) -> str | None:
    """Return the secret in the file that `given` has under `file_name`, or None where it names none.

    Raises
    ------
    ValueError
        When the secret itself is given too, or the file cannot be read or is empty.
    """
    path = given.get(file_name)
    if not path:
        return None
    if given.get(name):
        raise ValueError(f"{name}: is set, and so is {file_name}; set one of them")
    try:
        secret = Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        words = error.strerror if isinstance(error, OSError) else "not text"
        raise ValueError(f"{file_name}: the file cannot be read: {words}") from None
    if not secret:
        raise ValueError(f"{file_name}: the file is empty")
    return secret


def misspelled(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return a line for each name that is none of the known ones but looks like one.

    A misspelled variable would be ignored in silence, and the site would believe in a choice that was never made.
    Names that are like none of ours are left alone: they may belong to something else.
    """
    listed = sorted(known)
    lines = []
    for name in sorted(set(names) - set(listed)):
        alike = difflib.get_close_matches(name, listed, n=1, cutoff=LOOKS_LIKE)
        if alike:
            lines.append(f"{name}: is no setting; did you mean {alike[0]}?")
    return lines


def explain(error: ErrorDetails, names: Mapping[str, str], wants: Mapping[str, str], secrets: Iterable[str]) -> str:
    """Turn one of pydantic's errors into a line: what was set, what is wrong with it, what it wants.

    `names` has for each field what a person has written: the variable, or the key and its file.
    """
    where = error["loc"]
    message = error["msg"].removeprefix("Value error, ")
    if not where:
        # What several fields have to do with each other is said with their variables, wherever they were set.
        return re.sub(r"BONEWATCH_([A-Z_]+)", lambda found: names.get(found[1].lower(), found[0]), message)
    field = str(where[0])
    name = names.get(field, field)
    if error["type"] == "extra_forbidden" and len(where) == 1:
        return f"{name}: is no setting"
    place = "".join(f", item {part + 1}" if isinstance(part, int) else f", {part}" for part in where[1:])
    if error["type"] == "extra_forbidden":
        return f"{name}{place}: is no key of it{_meant(str(where[-1]))}"
    message = PLAIN.get(error["type"], message)
    line = f"{name}{place}: {message[:1].lower()}{message[1:]}{_given(error, field in set(secrets))}"
    return f"{line}; wants {wants[field]}" if wants.get(field) else line


def _meant(key: str) -> str:
    """Return what a key of a destination or an archive may have been meant to be, as a question."""
    bare = key.lower().replace("-", "_")
    alike = [SYNONYMS[bare]] if bare in SYNONYMS else difflib.get_close_matches(bare, PEER_KEYS, n=1, cutoff=0.6)
    return f"; did you mean {alike[0]}?" if alike else f"; it has {', '.join(PEER_KEYS)}"


def _given(error: ErrorDetails, secret: bool) -> str:
    value: Any = error.get("input")
    if secret or not isinstance(value, str | int | float) or len(str(value)) > 80:
        return ""
    return f" (it is {value!r})"
