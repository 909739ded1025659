"""Secrets by name: from a folder with a file each, or from the environment. A value is never shown."""

import os
import re
from pathlib import Path

from services.bus.clock import Clock
from services.bus.settings import ConfigurationError

LOOK_S = 1.0
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Secrets:
    """Looks secrets up; a changed file is read again, so that a key can be rotated without a restart.

    A file is looked at once in LOOK_S at most: every request asks for a secret.
    """

    def __init__(self, folder: Path | None = None, clock: Clock | None = None) -> None:
        self._folder = folder
        self._clock = clock or Clock()
        self._looked: dict[str, float] = {}
        self._read: dict[str, tuple[tuple[int, int, int], str]] = {}

    def get(self, name: str) -> str:
        """The secret's value.

        Raises ConfigurationError, naming the secret and where it was looked for, when it is missing,
        empty or unreadable.
        """
        if not NAME.fullmatch(name):
            raise ConfigurationError([f"secret {name!r}: a name is made of a-z, 0-9 and dashes"])
        value = self._from_folder(name) or os.environ.get(variable(name), "").strip()
        if not value:
            places = f"{variable(name)} in the environment"
            if self._folder:
                places = f"file {self._folder / name}, then {places}"
            raise ConfigurationError([f"secret {name}: missing or empty; looked for {places}"])
        return value

    def _from_folder(self, name: str) -> str:
        if self._folder is None:
            return ""
        now = self._clock.monotonic()
        if name in self._read and now < self._looked[name] + LOOK_S:
            return self._read[name][1]
        path = self._folder / name
        try:
            found = path.stat()
            # the inode too: a Kubernetes secret is swapped by a link to another file
            stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
            if name not in self._read or self._read[name][0] != stamp:
                self._read[name] = (stamp, path.read_text(encoding="utf-8").strip())
        except FileNotFoundError:
            self._read.pop(name, None)
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                [f"secret {name}: {path} cannot be read ({type(error).__name__})"]
            ) from None
        self._looked[name] = now
        return self._read[name][1]


def variable(name: str) -> str:
    """The environment variable of a secret."""
    return f"BILLBUS_SECRET_{name.upper().replace('-', '_')}"
