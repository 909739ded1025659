"""Checks of the machine itself: its timezones, and the folder in which a process keeps its state."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from services.bus.settings import Settings, variable
from services.operations.doctor_finding import Finding

GIB = 1024**3
ROOM_BYTES = 4 * GIB
"""An index of ten million outcomes takes 2 GiB, and while it is written it needs as much again."""


def check_machine(settings: Settings) -> list[Finding]:
    """Whether business days can be reckoned and state be kept here; writes nothing."""
    return [*_timezones(), *_state_folder(settings.state)]


def has_timezones() -> bool:
    """Whether this machine knows the timezones in which billers count their days."""
    try:
        ZoneInfo.no_cache("America/Chicago")
    except (ZoneInfoNotFoundError, OSError):
        return False
    return True


def _timezones() -> Iterator[Finding]:
    if not has_timezones():
        what = "there is no timezone database, so no biller's business day can be reckoned"
        yield Finding("machine", "wrong", what, "Install it: pip install tzdata (or the system's tzdata).")


def _state_folder(folder: Path) -> Iterator[Finding]:
    where = folder.absolute()
    while not where.exists():
        where = where.parent
    named = f"Set {variable('state')} to a folder that can be written"
    if not where.is_dir():
        yield Finding("machine", "wrong", f"state folder {folder}: {where} is no folder", f"{named}.")
    elif not os.access(where, os.W_OK | os.X_OK) or os.statvfs(where).f_flag & os.ST_RDONLY:
        advice = f"{named}, or let the process's user write there."
        yield Finding("machine", "wrong", f"state folder {folder} cannot be written", advice)
    elif (free := shutil.disk_usage(where).free) < ROOM_BYTES:
        what = f"the disk of state folder {folder} has {free / GIB:.1f} GiB left"
        advice = f"Make room for {ROOM_BYTES // GIB} GiB, or set {variable('state')} to another disk."
        yield Finding("machine", "wrong", what, advice)
    else:
        yield Finding("machine", "fine", f"state folder {folder} can be written, {free / GIB:.0f} GiB left")
