"""The drop folder: `<folder>/<biller>/*.bif` is taken once it no longer grows.

A taken file goes to `done/`, one that is refused whole to `refused/`, each with a report beside it. Every
replica may watch the same folder: the one that locks a file takes it, and taking it twice has no effect.
"""

import asyncio
import fcntl
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from services.bus.biller import Biller
from services.bus.publisher import NotAcknowledged
from services.bus.service import Bus
from services.events import FileReceived
from services.invoices.taking import FileTaker

log = structlog.get_logger()
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,119}\.bif")
SETTLED_S = 2.0
"""Seconds for which neither size nor time of change of a file may move before it is taken."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a file, and when (monotonic)."""

    size: int
    changed_ns: int
    since: float


class DropFolder:
    """Looks for files; `look` is one round."""

    def __init__(self, bus: Bus, taker: FileTaker) -> None:
        self._bus = bus
        self._taker = taker
        self._looks: dict[Path, Look] = {}
        self._left_alone: set[Path] = set()

    async def look(self) -> None:
        """Takes what is ready. A file that the bus does not acknowledge stays for the next round."""
        folder = self._bus.settings.drop_folder
        if folder is None:
            return
        for biller in self._bus.billers.values():
            for path in await asyncio.to_thread(self._ready, folder / biller.slug):
                try:
                    await self._take(biller, path)
                except NotAcknowledged:
                    log.warning("drop.not_acknowledged", biller=biller.slug, file=path.name)
                    return
                except OSError as error:
                    log.error("drop.failed", biller=biller.slug, file=path.name, error=type(error).__name__)

    def _ready(self, folder: Path) -> list[Path]:
        """Files of a biller that have settled; a link or an odd name is named once and left alone."""
        if folder.is_symlink() or not folder.is_dir():
            return []
        now = self._bus.clock.monotonic()
        found = {path for path in folder.iterdir() if path.name.endswith(".bif")}
        odd = {path for path in found if not NAME.fullmatch(path.name) or not regular(path)}
        if new := odd - self._left_alone:
            log.error("drop.left_alone", biller=folder.name, files=len(new), reason="no plain file or name")
        self._left_alone = {path for path in self._left_alone if path.parent != folder} | odd
        self._looks = {
            path: look for path, look in self._looks.items() if path.parent != folder or path in found
        }
        return sorted(path for path in found - odd if self._settled(path, now))

    def _settled(self, path: Path, now: float) -> bool:
        try:
            seen = path.lstat()
        except FileNotFoundError:
            return False
        look = self._looks.get(path)
        if look is None or (look.size, look.changed_ns) != (seen.st_size, seen.st_mtime_ns):
            self._looks[path] = Look(seen.st_size, seen.st_mtime_ns, now)
            return False
        return now - look.since >= SETTLED_S

    async def _take(self, biller: Biller, path: Path) -> None:
        with locked(path) as ours:
            if not ours:
                return
            with await asyncio.to_thread(path.open, "rb") as file:
                received = await self._taker.take(biller, file, path.name)
            await asyncio.to_thread(put_away, path, received)
            self._looks.pop(path, None)


def regular(path: Path) -> bool:
    """Whether it is a file itself: a link could lead anywhere."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Whether this process may take the file; the lock goes with the process."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # another replica may have put it away between our look and our lock
            ours = os.path.samestat(os.fstat(handle), path.lstat())
        except OSError:
            ours = False
        yield ours
    finally:
        os.close(handle)


def put_away(path: Path, received: FileReceived) -> None:
    """Moves a file to done/ or refused/ and writes its report beside it; no earlier file is overwritten."""
    folder = path.parent / ("refused" if received.state == "refused" else "done")
    folder.mkdir(exist_ok=True)
    target = folder / path.name
    for number in range(1, 10_000):
        if not target.exists():
            break
        target = folder / f"{path.stem}.{number}.bif"
    report = target.with_suffix(".report.json")
    draft = report.with_suffix(".part")
    record = received.as_record() | {
        "refusals": [
            {"line": each.line, "column": each.column, "expected": each.expected, "found": each.found}
            for each in received.refusals
        ]
    }
    draft.write_text(json.dumps(record, default=str, indent=1), encoding="utf-8")
    draft.replace(report)
    path.rename(target)
