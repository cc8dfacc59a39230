"""Who may look at the page: a file with a line `name:role:argon2 hash` for each person."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast, get_args

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from worker.errors import StartRefused

Role = Literal["viewer", "operator"]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 1024
FREE_FAILURES = 5
LONGEST_WAIT_SECONDS = 300.0
MOST_FAILED_NAMES = 10_000
HASHER = PasswordHasher()


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who may look; an operator may press buttons that change something, too."""

    name: str
    role: Role


@dataclass
class People:
    """The people of a password file, read anew when it changes: whoever is taken out is out at once."""

    path: Path
    clock: Callable[[], float] = time.monotonic
    _read: tuple[int, Mapping[str, tuple[Person, str]]] | None = None
    _failures: dict[str, tuple[int, float]] = field(default_factory=dict)

    def find(self, name: str) -> Person | None:
        """Return the person of this name.

        Raises
        ------
        worker.errors.StartRefused
            When the file cannot be read or a line of it is wrong.
        """
        entry = self._entries().get(name)
        return None if entry is None else entry[0]

    def check(self, name: str, password: str) -> Person | None:
        """Return who has this name and password.

        After a few failures under one name each next one is made to wait longer, whatever the password is. An unknown
        name takes as long as a wrong password and is made to wait alike. What can be nobody's is refused at once.
        """
        if NAME.fullmatch(name) is None or len(password) > LONGEST_PASSWORD or self.seconds_to_wait(name) > 0:
            return None
        person, known = self._entries().get(name, (None, _NOBODY))
        try:
            HASHER.verify(known, password)
        except (VerificationError, InvalidHashError):
            self._fail(name)
            return None
        self._failures.pop(name, None)
        return person

    def seconds_to_wait(self, name: str) -> float:
        """Return how long this name is locked."""
        count, since = self._failures.get(name, (0, 0.0))
        if count < FREE_FAILURES:
            return 0.0
        wait = min(2.0 ** (count - FREE_FAILURES + 1), LONGEST_WAIT_SECONDS)
        return max(0.0, since + wait - self.clock())

    def _fail(self, name: str) -> None:
        count, _ = self._failures.pop(name, (0, 0.0))
        self._failures[name] = (count + 1, self.clock())
        if len(self._failures) > MOST_FAILED_NAMES:
            # Names made up by a stranger must not fill the memory, nor unlock a name that is somebody's.
            known = self._entries()
            self._failures.pop(next((each for each in self._failures if each not in known), ""), None)

    def _entries(self) -> Mapping[str, tuple[Person, str]]:
        try:
            changed = self.path.stat().st_mtime_ns
            if self._read is None or self._read[0] != changed:
                self._read = (changed, _parse(self.path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise StartRefused(f"the page's password file {self.path} cannot be read") from error
        return self._read[1]


def set_password(path: Path, name: str, role: Role, password: str) -> None:
    """Write a person to the file, in place of the earlier line of that name; only the file's owner may read it.

    Raises
    ------
    ValueError
        The name or the password is not one that is accepted.
    OSError
        The file cannot be written.
    """
    if NAME.fullmatch(name) is None:
        raise ValueError("a name has 1 to 64 letters, digits, and . _ @ -")
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise ValueError(f"a password has {SHORTEST_PASSWORD} characters at least")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [line for line in lines if line.split(":", 1)[0] != name]
    fresh = path.with_name(f"{path.name}.part")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write("\n".join([*kept, f"{name}:{role}:{HASHER.hash(password)}"]) + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _parse(text: str) -> dict[str, tuple[Person, str]]:
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, role, known = [*line.split(":", 2), "", ""][:3]
        if NAME.fullmatch(name) is None or role not in get_args(Role) or not known.startswith("$argon2"):
            raise StartRefused(f"line {number} of the page's password file is not name:role:argon2 hash")
        found[name] = (Person(name, cast("Role", role)), known)
    return found


# What an unknown name's password is compared with: nobody knows what it is the hash of.
_NOBODY = HASHER.hash(os.urandom(32).hex())
