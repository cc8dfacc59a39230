"""Write `deploy/env.example` and `docs/settings.md` from `worker/settings/template.toml`.

The first has the same settings as variables of an environment, the second is for reading.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from worker.settings.file import SETTING, template
from worker.settings.settings import PREFIX

TARGET = Path(__file__).with_name("env.example")
DOCUMENT = Path(__file__).parents[1] / "docs" / "settings.md"
HEAD = """\
# Every setting of bonewatch as a variable, with its default. Copy what you change and set it in the environment of the
# services. A line that begins with "# " and a name shows a value for a setting that has no default. An empty variable
# counts as unset; a misspelled one is refused at the start. A variable wins over the settings file (`bonewatch init`
# writes it). Lists are written with commas, those of objects as JSON.

# The settings file; <home>/bonewatch.toml where unset.
# BONEWATCH_CONFIG=/etc/bonewatch/bonewatch.toml
"""
DOCUMENT_HEAD = """\
# Settings

Written from `worker/settings/template.toml` by `python deploy/write_settings.py`. The names are those of the settings
file (`bonewatch init` writes it to `<home>/bonewatch.toml`); as a variable of the environment each has `BONEWATCH_`
before it, in capitals: `BONEWATCH_AE_TITLE` is `ae_title`. A variable wins over the file. `bonewatch settings` prints
what is in force and where each value comes from.
"""
HEADING = re.compile(r"# ---- (.+?) -+")
CODE_OR_PLACEHOLDER = re.compile(r"(`[^`]*`)|(<\w+>(?:[\w/.-]*[\w/-])?)")


def env_example() -> str:
    """Return the text of the file."""
    settings = template()
    names = {line[1] for line in SETTING.finditer(settings)}
    lines = settings[settings.index("\n\n") + 1 :].splitlines()
    return HEAD + "".join(f"{_line(line, names)}\n" for line in lines)


def document() -> str:
    """Return the text of the document: a table a section, each row the settings that share an explanation."""
    settings = template()
    lines, words, rows = [DOCUMENT_HEAD], list[str](), list[str]()
    for line in [*settings[settings.index("\n\n") + 1 :].splitlines(), "# "]:
        found, heading = SETTING.fullmatch(line), HEADING.fullmatch(line)
        if found is not None:
            name, text, example = found.groups()
            rows.append(f"`{name}`: {'for example' if example else 'default'} `{text}`")
            continue
        if rows:
            # Markdown would take <home> for a tag
            prose = CODE_OR_PLACEHOLDER.sub(lambda part: part[1] or f"`{part[2]}`", " ".join(words))
            lines.append(f"{prose}\n\n" + "".join(f"- {row}\n" for row in rows))
            words, rows = [], []
        if heading is not None:
            lines.append(f"## {heading[1]}\n")
        elif line.strip("# "):
            words.append(line.removeprefix("# "))
    return "\n".join(lines)


def _line(line: str, names: set[str]) -> str:
    found = SETTING.fullmatch(line)
    if found is None:
        return re.sub(r"`(\w+)`", lambda word: _variable(word[1]) if word[1] in names else word[0], line)
    name, text, example = found.groups()
    return f"{'# ' if example else ''}{_variable(name)}={_value(text)}"


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def _value(text: str) -> str:
    value: Any = tomllib.loads(f"value = {text}")["value"]
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ",".join(value)
    return json.dumps(value)


if __name__ == "__main__":
    TARGET.write_text(env_example(), encoding="utf-8")
    DOCUMENT.write_text(document(), encoding="utf-8")
